"""Arrays of a file of ``numpy.savez``: their headers without their contents, what does not fit together, and splits."""

import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pipeline.data.dataset import Split, Splits
from pipeline.data.float32 import in_float32
from pipeline.data.int64 import in_int64
from pipeline.errors import ConfigError, kind_and_text

__all__ = ["Header", "counts_of", "floats", "headers_of", "splits_of", "whole"]

Header = tuple[tuple[int, ...], np.dtype]
"""Shape and dtype."""
_KINDS = {"f": "floating-point numbers", "iu": "whole numbers"}


def headers_of(file: Path, label_kinds: str, optional: Sequence[str] = ()) -> dict[str, Header]:
    """The arrays ``x_train``, ``y_train``, ``x_test`` and ``y_test``, and others, by name.

    Args:
        file: of numpy.savez.
        label_kinds: kinds of dtypes that labels may have, ``f`` or ``iu``; inputs may have any real one.
        optional: splits that may be there.

    Raises:
        ConfigError: the file is not there, is no such file, lacks an array, or arrays do not fit together.
    """
    if not file.is_file():
        raise ConfigError(
            f"there are no arrays (expected: a file of numpy.savez at {file}). Correct dataset.path, --data-root or "
            "ONWARD_DATA."
        )
    found = _found(file, _names_of(("train", "test", *optional)), label_kinds)
    splits = ("train", "test", *(split for split in optional if not found.keys().isdisjoint(_names_of([split]))))
    wanted = _names_of(splits)
    missing = [name for name in wanted if name not in found]
    if missing:
        raise ConfigError(
            f"{file} lacks an array (given: {', '.join(found) or 'none of them'}, expected: {', '.join(wanted)}). "
            f"Add {missing[0]}."
        )
    _check(file, {name: shape for name, (shape, _) in found.items()}, splits)
    _check_pixels(file, found)
    return found


def counts_of(headers: dict[str, Header]) -> dict[str, int]:
    """The number of samples of each split that is there."""
    return {name.removeprefix("x_"): shape[0] for name, (shape, _) in headers.items() if name.startswith("x_")}


def _names_of(splits: Sequence[str]) -> list[str]:
    return [f"{kind}_{split}" for split in splits for kind in "xy"]


def _found(file: Path, names: Sequence[str], label_kinds: str) -> dict[str, Header]:
    """Those of the arrays that are there."""
    found: dict[str, Header] = {}
    try:
        with zipfile.ZipFile(file) as archive:
            for name in (n for n in names if f"{n}.npy" in archive.namelist()):
                with archive.open(f"{name}.npy") as member:
                    major, _ = np.lib.format.read_magic(member)
                    read = np.lib.format.read_array_header_1_0 if major == 1 else np.lib.format.read_array_header_2_0
                    shape, _, dtype = read(member)
                _check_dtype(file, name, dtype, label_kinds)
                found[name] = tuple(shape), dtype
    except (ConfigError, OSError):
        raise
    except Exception as error:  # zlib.error, RuntimeError, EOFError: readers of damaged files raise whatever they meet
        raise _unreadable(file, error) from None
    return found


def _check_dtype(file: Path, name: str, dtype: np.dtype, label_kinds: str) -> None:
    """Labels must be numbers of their kind; inputs may be any real ones."""
    if dtype.kind in (label_kinds if name.startswith("y") else "fiub"):
        return
    other = {"f": "npz", "iu": "arrays"}[label_kinds]
    advice = "Convert it with astype."
    if name.startswith("y") and dtype.kind in "fiu":
        advice = f"Convert it with astype, or choose dataset.name = \"{other}\"."
    expected = _KINDS[label_kinds] if name.startswith("y") else "numbers"
    raise ConfigError(f"{name} of {file} has another dtype (given: {dtype}, expected: {expected}). {advice}")


def _check(file: Path, shapes: dict[str, tuple[int, ...]], splits: Sequence[str]) -> None:
    """Refuses arrays that do not fit together."""
    for split in splits:
        x, y = shapes[f"x_{split}"], shapes[f"y_{split}"]
        if len(x) < 2 or not y or x[0] != y[0] or 0 in x + y:
            raise ConfigError(
                f"the {split} arrays of {file} do not fit together (given: x_{split} {x}, y_{split} {y}, expected: "
                "(samples, ...) of as many samples, without a 0). Correct them."
            )
        for kind in ("x", "y"):
            if shapes[f"{kind}_train"][1:] != shapes[f"{kind}_{split}"][1:]:
                raise ConfigError(
                    f"the samples of {file} differ in shape (given: {kind}_train {shapes[f'{kind}_train']}, "
                    f"{kind}_{split} {shapes[f'{kind}_{split}']}, expected: the same behind the first number). Correct "
                    "them."
                )


def _check_pixels(file: Path, headers: dict[str, Header]) -> None:
    """Refuses splits on two scales: bytes are divided by 255, and nothing else is."""
    train = headers["x_train"][1]
    for name, (_, dtype) in headers.items():
        if name.startswith("x_") and (dtype == np.uint8) != (train == np.uint8):
            raise ConfigError(
                f"the samples of {file} differ in scale (given: x_train of {train}, {name} of {dtype}; expected: bytes "
                "of pixels, uint8, in all or in none, for only these are divided by 255). Convert one of them."
            )


def splits_of(file: Path, names: Sequence[str], labels: Callable[[str, np.ndarray], Tensor]) -> Splits:
    """Reads splits: their inputs are bytes of pixels, or else float32.

    Args:
        file: whose headers were found to be right.
        names: of the splits.
        labels: from the name of an array of labels and the array.

    Raises:
        ConfigError: a number is none of float32.
    """
    splits = {}
    with np.load(file, allow_pickle=False) as arrays:
        for name in names:
            x = arrays[f"x_{name}"]
            is_pixels = x.dtype == np.uint8
            inputs = torch.from_numpy(np.ascontiguousarray(x)) if is_pixels else floats(file, f"x_{name}", x)
            splits[name] = Split(inputs, labels(f"y_{name}", arrays[f"y_{name}"]))
    return Splits(splits["train"], splits.get("validation"), splits["test"])


def whole(file: Path, name: str) -> np.ndarray:
    """An array of classes, in int64. Raises ConfigError: the file is damaged, or a number is beyond int64."""
    try:
        with np.load(file, allow_pickle=False) as arrays:
            return in_int64(arrays[name], f"{file}, {name},")
    except (ConfigError, OSError):
        raise
    except Exception as error:  # see _found
        raise _unreadable(file, error) from None


def _unreadable(file: Path, error: Exception) -> ConfigError:
    return ConfigError(f"{file} is not a file of numpy.savez ({kind_and_text(error)}). Write it anew.")


def floats(file: Path, name: str, array: np.ndarray) -> Tensor:
    """The array in float32.

    Raises:
        ConfigError: a number is nan, infinite, or becomes so.
    """
    return torch.from_numpy(in_float32(array, f"{name} of {file} has", lambda at: f"sample {at[0]}"))
