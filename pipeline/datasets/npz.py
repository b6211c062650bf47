"""Your own arrays with a class for each sample: a file of numpy's ``npz``."""

from functools import partial
from pathlib import Path

import numpy as np
import torch

from pipeline.data.augment import Augment
from pipeline.data.dataset import ArrayDataset, Dataset, DataSpec, Split, Splits
from pipeline.data.own_task import own_task
from pipeline.datasets._npz import Header, floats, headers_of, whole
from pipeline.errors import ConfigError

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
    _check_pixels(file, headers)
    counts = {name.removeprefix("x_"): shape[0] for name, (shape, _) in headers.items() if name.startswith("x_")}
    labels = [torch.from_numpy(whole(file, f"y_{split}")) for split in counts]
    spec = DataSpec(
        headers["x_train"][0][1:], own_task(labels, str(file)), counts["train"], counts["test"],
        num_validation=counts.get("validation", 0),
    )  # fmt: skip
    read = partial(_read, file, list(counts), spec.task.label_dtype)
    return ArrayDataset("npz", spec, read, augment=augment, remedy=f"Write {file} anew.")


def _check_pixels(file: Path, headers: dict[str, Header]) -> None:
    """Refuses splits on two scales: bytes are divided by 255, and nothing else is."""
    train = headers["x_train"][1]
    for name, (_, dtype) in headers.items():
        if name.startswith("x_") and (dtype == np.uint8) != (train == np.uint8):
            raise ConfigError(
                f"the samples of {file} differ in scale (given: x_train of {train}, {name} of {dtype}; expected: bytes "
                "of pixels, uint8, in all or in none, for only these are divided by 255). Convert one of them."
            )


def _read(file: Path, names: list[str], label_dtype: torch.dtype) -> Splits:
    splits = {}
    with np.load(file, allow_pickle=False) as arrays:
        for name in names:
            x, y = arrays[f"x_{name}"], torch.from_numpy(arrays[f"y_{name}"].astype(np.int64))
            is_pixels = x.dtype == np.uint8
            inputs = torch.from_numpy(np.ascontiguousarray(x)) if is_pixels else floats(file, f"x_{name}", x)
            splits[name] = Split(inputs, y.to(label_dtype))
    return Splits(splits["train"], splits.get("validation"), splits["test"])
