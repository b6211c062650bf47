"""STL-10: colour photographs of 96x96 pixels in 10 classes, 5 000 for training and 8 000 for testing.

The labelled part; the 100 000 images without a label are downloaded with it (2.6 GB) and not read.
"""

from functools import partial
from pathlib import Path

import numpy as np
import torch

from pipeline.data.augment import Augment
from pipeline.data.dataset import ArrayDataset, Dataset, DataSpec, Normalisation, Split
from pipeline.data.task import Classification
from pipeline.datasets._torchvision import ensure, remedy

__all__ = ["build"]

# Source: the public code of the published runs of local losses (Nøkland and Eidnes 2019).
_NORMALISATION = Normalisation(mean=(0.447, 0.440, 0.407), std=(0.260, 0.257, 0.271))

_SHAPE = (3, 96, 96)
_IMAGE_BYTES = 3 * 96 * 96


def build(root: Path, *, augment: Augment = Augment(), download: bool = True) -> Dataset:
    """Find STL-10: inputs (3, 96, 96), 10 classes.

    Args:
        root: folder of ``stl10_binary``.
        augment: augmentation of the training images.
        download: fetch missing files.

    Raises:
        ConfigError: a file is missing and could not be downloaded.
    """
    folder = root / "stl10_binary"
    files = [folder / f"{content}.bin" for content in ("train_X", "train_y", "test_X", "test_y")]
    splits = [{"split": "train"}]
    ensure("stl10", files, root=root, class_name="STL10", splits=splits, download=download)
    num_train, num_test = (files[i].stat().st_size // _IMAGE_BYTES for i in (0, 2))
    return ArrayDataset(
        "stl10",
        DataSpec(_SHAPE, Classification(10), num_train, num_test),
        partial(_read, files),
        augment=augment,
        normalisation=_NORMALISATION,
        remedy=remedy(folder),
    )


def _read(files: list[Path]) -> tuple[Split, Split]:
    train_x, train_y, test_x, test_y = files
    return _split(train_x, train_y), _split(test_x, test_y)


def _split(images: Path, labels: Path) -> Split:
    # Each channel is stored column by column.
    pixels = np.fromfile(images, dtype=np.uint8).reshape(-1, *_SHAPE).transpose(0, 1, 3, 2)
    classes = np.fromfile(labels, dtype=np.uint8).astype(np.int64) - 1  # stored from 1
    return Split(torch.from_numpy(np.ascontiguousarray(pixels)), torch.from_numpy(classes))
