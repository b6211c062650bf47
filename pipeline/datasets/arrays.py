"""Your own arrays of floating-point numbers, to predict numbers: a file of numpy's ``npz``."""

from functools import partial
from pathlib import Path

import numpy as np

from pipeline.data.dataset import ArrayDataset, Dataset, DataSpec, Split
from pipeline.data.position_tasks import Regression
from pipeline.datasets._npz import floats, headers_of

__all__ = ["build"]


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
    shapes = {name: shape for name, (shape, _) in headers_of(file, "f").items()}
    label_shape = shapes["y_train"][1:] or (1,)
    spec = DataSpec(
        shapes["x_train"][1:], Regression(label_shape[-1], label_shape[:-1]), shapes["x_train"][0], shapes["x_test"][0]
    )
    return ArrayDataset("arrays", spec, partial(_read, file, label_shape), remedy=f"Write {file} anew.")


def _read(file: Path, label_shape: tuple[int, ...]) -> tuple[Split, Split]:
    with np.load(file, allow_pickle=False) as arrays:
        splits = [[floats(file, name, arrays[name]) for name in (f"x_{s}", f"y_{s}")] for s in ("train", "test")]
    first, second = (Split(x, y.reshape(len(y), *label_shape)) for x, y in splits)
    return first, second
