"""CIFAR-10 and CIFAR-100 in their original form: pickled batches, one row of 3072 bytes for an image."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from pipeline.data.augment import Augment
from pipeline.data.dataset import ArrayDataset, Dataset, DataSpec, Normalisation, Split
from pipeline.data.task import Classification
from pipeline.datasets._torchvision import ensure, remedy
from pipeline.pickles import plain

__all__ = ["Layout", "build_cifar"]


@dataclass(frozen=True)
class Layout:
    """Files and sizes of CIFAR-10 or CIFAR-100."""

    name: str
    class_name: str
    """Name of the class in ``torchvision.datasets``."""
    folder: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    label_key: str
    num_classes: int
    num_train: int
    """Training images; the pickles do not tell their number before they are loaded."""
    num_test: int

    def files(self, root: Path) -> list[Path]:
        """All files of the data set, in the folder ``root``."""
        return [root / self.folder / name for name in self.train + self.test]


def build_cifar(
    layout: Layout, root: Path, normalisation: Normalisation, augment: Augment, download: bool
) -> Dataset:
    """Find the data set that ``layout`` describes; inputs (3, 32, 32).

    Raises:
        ConfigError: a file is missing and could not be downloaded.
    """
    name = layout.name
    ensure(name, layout.files(root), root=root, class_name=layout.class_name, splits=[{}], download=download)
    spec = DataSpec((3, 32, 32), Classification(layout.num_classes), layout.num_train, layout.num_test)
    read = partial(_read, layout, root)
    advice = remedy(root / layout.folder)
    return ArrayDataset(name, spec, read, augment=augment, normalisation=normalisation, remedy=advice)


def _read(layout: Layout, root: Path) -> tuple[Split, Split]:
    folder = root / layout.folder
    train = [folder / name for name in layout.train]
    test = [folder / name for name in layout.test]
    return _split(train, layout.label_key), _split(test, layout.label_key)


def _split(paths: list[Path], label_key: str) -> Split:
    entries = [plain(path.read_bytes()) for path in paths]
    try:
        pixels = np.concatenate([entry["data"] for entry in entries]).reshape(-1, 3, 32, 32)
        labels = np.concatenate([entry[label_key] for entry in entries]).astype(np.int64)
    except (TypeError, OverflowError) as error:  # plain data, and not of this kind
        raise ValueError(str(error)) from error
    return Split(torch.from_numpy(pixels), torch.from_numpy(labels))
