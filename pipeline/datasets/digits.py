"""Handwritten digits of 8x8 pixels that come with scikit-learn: 1 437 for training, 360 for testing.

The split keeps the share of every class and is always the same, whatever the run's seed.
"""

from functools import cache
from pathlib import Path

import numpy as np
import torch

from pipeline.data.augment import Augment
from pipeline.data.dataset import ArrayDataset, Dataset, DataSpec, Split
from pipeline.data.task import Classification

__all__ = ["build"]

_NUM_TEST = 360


def build(root: Path, *, augment: Augment = Augment()) -> Dataset:
    """Make the data set: inputs (1, 8, 8) in [0, 1], 10 classes.

    Args:
        root: not read.
        augment: augmentation of the training images.
    """
    spec = DataSpec((1, 8, 8), Classification(10), 1437, _NUM_TEST)
    remedy = "Install scikit-learn again."
    return ArrayDataset("digits", spec, _read, augment=augment, remedy=remedy)


def _read() -> tuple[Split, Split]:
    # Imported here: scikit-learn takes a second, and only the ends of the pipeline read the digits.
    from sklearn.model_selection import train_test_split

    x, y = _all()
    parts = train_test_split(x, y, test_size=_NUM_TEST, stratify=y, random_state=0)  # copies
    train_x, test_x, train_y, test_y = (torch.from_numpy(part) for part in parts)
    return Split(train_x, train_y), Split(test_x, test_y)


@cache  # half a megabyte, and text that is read for longer than a small run takes
def _all() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    x = (bunch.images / 16).astype(np.float32)[:, None]  # (samples, 1, 8, 8)
    y = bunch.target.astype(np.int64)
    x.setflags(write=False)
    y.setflags(write=False)
    return x, y
