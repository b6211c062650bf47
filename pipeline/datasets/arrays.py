"""Your own arrays with numbers to predict for each sample: a file of numpy's ``npz``."""

from functools import partial
from pathlib import Path

import numpy as np
from torch import Tensor

from pipeline.data.dataset import ArrayDataset, Dataset, DataSpec
from pipeline.data.position_tasks import Regression
from pipeline.datasets._npz import counts_of, floats, headers_of, splits_of

__all__ = ["build"]


def build(root: Path, *, path: str) -> Dataset:
    """Find the arrays ``x_train``, ``y_train``, ``x_test`` and ``y_test``, and where there is a validation set
    ``x_validation`` and ``y_validation``; the loss is the mean squared error.

    Inputs are (samples, ...): bytes are taken for pixels and scaled to [0, 1], other numbers stay as they are. Labels
    are (samples,) or (samples, numbers) of a whole sample each, or (samples, positions, ..., numbers): those at every
    position of it.

    Args:
        root: folder of all data sets.
        path: the file, absolute or relative to ``root``.

    Raises:
        ConfigError: it is not there, is no such file, lacks an array, or arrays do not fit together.
    """
    file = root / path
    headers = headers_of(file, "f", ("validation",))
    counts, label_shape = counts_of(headers), headers["y_train"][0][1:] or (1,)
    spec = DataSpec(
        headers["x_train"][0][1:], Regression(label_shape[-1], label_shape[:-1]), counts["train"], counts["test"],
        num_validation=counts.get("validation", 0), has_pixels=headers["x_train"][1] == np.uint8,
    )  # fmt: skip
    read = partial(splits_of, file, list(counts), partial(_numbers, file, label_shape))
    return ArrayDataset("arrays", spec, read, remedy=f"Write {file} anew.")


def _numbers(file: Path, label_shape: tuple[int, ...], name: str, array: np.ndarray) -> Tensor:
    return floats(file, name, array).reshape(len(array), *label_shape)
