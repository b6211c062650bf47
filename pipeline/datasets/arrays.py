"""Your own arrays of floating-point numbers, to predict numbers: a file of numpy's ``npz``."""

import zipfile
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pipeline.data.dataset import ArrayDataset, Dataset, DataSpec, Split
from pipeline.data.position_tasks import Regression
from pipeline.errors import ConfigError

__all__ = ["build"]

_NAMES = ("x_train", "y_train", "x_test", "y_test")


def build(root: Path, *, path: str) -> Dataset:
    """Find the arrays ``x_train``, ``y_train``, ``x_test`` and ``y_test``; the loss is the mean squared error.

    Inputs are (samples, ...). Labels are (samples,) or (samples, numbers) of a whole sample each, or (samples,
    positions, ..., numbers): those at every position of it.

    Args:
        root: folder of all data sets.
        path: the file, absolute or relative to ``root``.

    Raises:
        ConfigError: it is not there, is no such file, lacks an array, or arrays do not fit together.
    """
    file = root / path
    shapes = _shapes(file)
    _check(file, shapes)
    label_shape = shapes["y_train"][1:] or (1,)
    spec = DataSpec(
        shapes["x_train"][1:], Regression(label_shape[-1], label_shape[:-1]), shapes["x_train"][0], shapes["x_test"][0]
    )
    return ArrayDataset("arrays", spec, partial(_read, file, label_shape), remedy=f"Write {file} anew.")


def _shapes(file: Path) -> dict[str, tuple[int, ...]]:
    """The shapes of all arrays, from their headers.

    Raises:
        ConfigError: see :func:`build`.
    """
    if not file.is_file():
        raise ConfigError(
            f"there are no arrays (expected: a file of numpy.savez at {file}). Correct dataset.path, --data-root or "
            "ONWARD_DATA."
        )
    shapes = {}
    try:
        with zipfile.ZipFile(file) as archive:
            for name in (n for n in _NAMES if f"{n}.npy" in archive.namelist()):
                with archive.open(f"{name}.npy") as member:
                    major, _ = np.lib.format.read_magic(member)
                    read = np.lib.format.read_array_header_1_0 if major == 1 else np.lib.format.read_array_header_2_0
                    shape, _, dtype = read(member)
                _check_dtype(file, name, dtype)
                shapes[name] = tuple(shape)
    except (ConfigError, OSError):
        raise
    except Exception as error:  # zlib.error, RuntimeError, EOFError: readers of damaged files raise whatever they meet
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ConfigError(f"{file} is not a file of numpy.savez ({reason}). Write it anew.") from None
    missing = [name for name in _NAMES if name not in shapes]
    if missing:
        raise ConfigError(
            f"{file} lacks an array (given: {', '.join(shapes) or 'none of them'}, expected: {', '.join(_NAMES)}). "
            f"Add {missing[0]}."
        )
    return shapes


def _check_dtype(file: Path, name: str, dtype: np.dtype) -> None:
    """Labels must be floating-point numbers; inputs may be any real ones."""
    if dtype.kind not in ("f" if name.startswith("y") else "fiub"):
        raise ConfigError(
            f"{name} of {file} has another dtype (given: {dtype}, expected: floating-point numbers). Convert it with "
            "astype."
        )


def _check(file: Path, shapes: dict[str, tuple[int, ...]]) -> None:
    """Refuses arrays that do not fit together."""
    for split in ("train", "test"):
        x, y = shapes[f"x_{split}"], shapes[f"y_{split}"]
        if len(x) < 2 or not y or x[0] != y[0] or 0 in x + y:
            raise ConfigError(
                f"the {split} arrays of {file} do not fit together (given: x_{split} {x}, y_{split} {y}, expected: "
                "(samples, ...) of as many samples, without a 0). Correct them."
            )
    for kind in ("x", "y"):
        if shapes[f"{kind}_train"][1:] != shapes[f"{kind}_test"][1:]:
            raise ConfigError(
                f"the samples of {file} differ in shape (given: {kind}_train {shapes[f'{kind}_train']}, {kind}_test "
                f"{shapes[f'{kind}_test']}, expected: the same behind the first number). Correct them."
            )


def _read(file: Path, label_shape: tuple[int, ...]) -> tuple[Split, Split]:
    with np.load(file, allow_pickle=False) as arrays:
        splits = [[_floats(file, name, arrays[name]) for name in (f"x_{s}", f"y_{s}")] for s in ("train", "test")]
    first, second = (Split(x, y.reshape(len(y), *label_shape)) for x, y in splits)
    return first, second


def _floats(file: Path, name: str, array: np.ndarray) -> Tensor:
    """The array in float32.

    Raises:
        ConfigError: a number is nan, infinite, or becomes so.
    """
    with np.errstate(over="ignore"):
        found = np.ascontiguousarray(array, dtype=np.float32)
    if not np.isfinite(found).all():
        place = tuple(np.argwhere(~np.isfinite(found))[0])
        raise ConfigError(
            f"{name} of {file} has a number that is nan, infinite or beyond float32 (given: {array[place]} in sample "
            f"{place[0]}, expected: at most 3.4e38). Leave that sample out."
        )
    return torch.from_numpy(found)
