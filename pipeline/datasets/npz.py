"""Your own arrays with a class for each sample: a file of numpy's ``npz``."""

from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pipeline.data.augment import Augment
from pipeline.data.dataset import ArrayDataset, Dataset, DataSpec
from pipeline.data.own_task import own_task
from pipeline.datasets._npz import counts_of, headers_of, splits_of, whole

__all__ = ["build"]


def build(root: Path, *, path: str, augment: Augment = Augment()) -> Dataset:
    """Find the arrays ``x_train``, ``y_train``, ``x_test`` and ``y_test``, and where there is a validation set
    ``x_validation`` and ``y_validation``.

    Inputs are (samples, ...): bytes are taken for pixels and scaled to [0, 1], other numbers stay as they are. Labels
    are classes from 0, (samples,), or (samples, positions, ...) at each position.

    Args:
        root: folder of all data sets.
        path: the file, absolute or relative to ``root``.
        augment: augmentation of the training images.

    Raises:
        ConfigError: it is not there, is no such file, lacks an array, or arrays do not fit together.
    """
    file = root / path
    headers = headers_of(file, "iu", ("validation",))
    counts = counts_of(headers)
    labels = [torch.from_numpy(whole(file, f"y_{split}")) for split in counts]
    spec = DataSpec(
        headers["x_train"][0][1:], own_task(labels, str(file)), counts["train"], counts["test"],
        num_validation=counts.get("validation", 0), has_pixels=headers["x_train"][1] == np.uint8,
    )  # fmt: skip
    read = partial(splits_of, file, list(counts), partial(_classes, spec.task.label_dtype))
    return ArrayDataset("npz", spec, read, augment=augment, remedy=f"Write {file} anew.")


def _classes(label_dtype: torch.dtype, name: str, array: np.ndarray) -> Tensor:
    return torch.from_numpy(array.astype(np.int64)).to(label_dtype)
