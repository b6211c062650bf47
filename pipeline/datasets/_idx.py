"""MNIST-like data sets in the IDX format: a short big-endian header, then bytes."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pipeline.data.augment import Augment
from pipeline.data.dataset import ArrayDataset, Dataset, DataSpec, Normalisation, Split
from pipeline.data.task import Classification
from pipeline.datasets._torchvision import ensure, remedy
from pipeline.errors import ConfigError
from pipeline.ranges import Natural

__all__ = ["IdxOptions", "build_idx"]

_UINT8 = 0x08  # the only element type that these data sets use


@dataclass(frozen=True)
class IdxOptions:
    """Options of the MNIST-like data sets."""

    normalise: bool = True
    """Normalise pixels to mean 0 and standard deviation 1; otherwise they stay in [0, 1]."""
    train_samples: Natural = 0
    """Training images used, the first ones of the file; 0 for all. Some published runs hold the last 10 000 back."""
    download: bool = True
    """Fetch missing files."""


def build_idx(
    name: str, root: Path, class_name: str, normalisation: Normalisation, augment: Augment, options: IdxOptions
) -> Dataset:
    """Find one of the data sets that torchvision lays out as ``<class_name>/raw/*-ubyte``.

    Args:
        name: name of the data set in a config.
        root: folder of all data sets.
        class_name: name of the class in ``torchvision.datasets``, and of its folder.
        normalisation: mean and standard deviation of the one channel.
        augment: augmentation of the training images.
        options: see :class:`IdxOptions`.

    Returns:
        Inputs (1, 28, 28), 10 classes.

    Raises:
        ConfigError: a file is missing and could not be downloaded, or does not begin as an IDX file does; or there
            are fewer training images than ``train_samples``.
    """
    folder = root / class_name / "raw"
    contents = ("images-idx3", "labels-idx1")
    files = [folder / f"{split}-{content}-ubyte" for split in ("train", "t10k") for content in contents]
    ensure(name, files, root=root, class_name=class_name, splits=[{}], download=options.download)
    available, *size = _shape(files[0], 3)
    num_test = _shape(files[2], 3)[0]
    if not 0 <= options.train_samples <= available:
        raise ConfigError(
            f"{name} does not have that many training images (given: dataset.train_samples = {options.train_samples}, "
            f"expected: 1 to {available}, or 0 for all). Change it."
        )
    num_train = options.train_samples or available
    spec = DataSpec((1, *size), Classification(10), num_train, num_test, has_pixels=True)
    read = partial(_read, files, num_train, available)
    scale = normalisation if options.normalise else None
    return ArrayDataset(name, spec, read, augment=augment, normalisation=scale, remedy=remedy(folder))


def _read(files: Sequence[Path], num_train: int, available: int) -> tuple[Split, Split]:
    """Read the two splits, the training one cut to its first ``num_train`` images."""
    train_x, train_y, test_x, test_y = files
    train = _split(train_x, train_y)
    if num_train < available:
        train = Split(train.x[:num_train].clone(), train.y[:num_train])
    return train, _split(test_x, test_y)


def _split(images: Path, labels: Path) -> Split:
    return Split(_values(images, 3).unsqueeze(1), _values(labels, 1).long())


def _shape(path: Path, num_dims: int) -> tuple[int, ...]:
    """Read the dimensions in the header of an IDX file.

    Raises:
        ConfigError: it has no such header.
    """
    with path.open("rb") as file:
        header = file.read(4 + 4 * num_dims)
    expected = bytes((0, 0, _UINT8, num_dims))
    if header[:4] != expected or len(header) < 4 + 4 * num_dims:
        raise ConfigError(
            f"{path} is not an IDX file of {num_dims} dimensions (given: a header of {len(header)} bytes that begins "
            f"with {header[:4].hex() or 'nothing'}, expected: {4 + 4 * num_dims} bytes, {expected.hex()}). "
            f"{remedy(path.parent)}"
        )
    return struct.unpack(f">{num_dims}I", header[4:])


def _values(path: Path, num_dims: int) -> Tensor:
    """Read the contents of an IDX file, uint8; ValueError where the file is too short for its shape."""
    flat = np.fromfile(path, dtype=np.uint8, offset=4 + 4 * num_dims)
    return torch.from_numpy(flat.reshape(_shape(path, num_dims)))
