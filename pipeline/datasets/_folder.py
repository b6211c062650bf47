"""Data sets of pictures in ``{train,test}/<class>/``, all decoded pixels held in memory."""

import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from pipeline.data.augment import Augment
from pipeline.data.dataset import ArrayDataset, Dataset, DataSpec, Normalisation, Split
from pipeline.data.task import Classification
from pipeline.datasets._pixels import load_pixels
from pipeline.errors import ConfigError

__all__ = ["build_folder"]

_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".ppm", ".pgm", ".tif", ".tiff", ".webp"}


@dataclass(frozen=True)
class _Listing:
    """The pictures of a split, sorted, and their classes."""

    files: list[Path]
    labels: list[int]


def build_folder(
    name: str, folder: Path, image_size: int, channels: int, augment: Augment, normalisation: Normalisation | None,
    train_samples: int = 0,
) -> Dataset:  # fmt: skip
    """Make a data set of the pictures in ``folder``; the classes are its sub-folders' names in order.

    Args:
        name: name of the data set in a config.
        folder: folder of ``train/<class>/*`` and ``test/<class>/*`` (or ``val``).
        image_size: edge in pixels: the shorter side is resized to it, the longer one cut to it about the centre.
        channels: 1 (grey) or 3 (colour).
        augment: augmentation of the training images.
        normalisation: None leaves pixels in [0, 1].
        train_samples: training pictures used, the first ones of every class in turn; 0: all.

    Raises:
        ConfigError: a split is missing or has no pictures, the two splits differ in their classes, there is only
            one class, or there are fewer training pictures than ``train_samples``.
    """
    train = _split_folder(folder, ("train",))
    test = _split_folder(folder, ("test", "val"))
    classes = _classes(train)
    if _classes(test) != classes:
        odd = sorted(set(classes) ^ set(_classes(test)))
        raise ConfigError(
            f"the classes of {train} and {test} differ (given in one of them only: {', '.join(odd)}, "
            "expected: the same sub-folders). Add or remove these."
        )
    available, num_test = (len(_list(split, classes).files) for split in (train, test))
    if len(classes) < 2:
        raise ConfigError(
            f"there is one class only (given: the folder {train / classes[0]}; expected: a folder for each of 2 "
            f"classes or more in {train}). Sort the pictures into them, or correct dataset.path."
        )
    if not 0 <= train_samples <= available:
        raise ConfigError(
            f"there are not that many training pictures in {train} (given: dataset.train_samples = {train_samples}, "
            f"expected: 1 to {available}, or 0 for all). Change it."
        )
    task = Classification(len(classes))
    spec = DataSpec((channels, image_size, image_size), task, train_samples or available, num_test)
    read = partial(_read, folder, train, test, classes, image_size, channels, train_samples)
    advice = f"Start again: {folder} was changed meanwhile."
    return ArrayDataset(name, spec, read, augment=augment, normalisation=normalisation, remedy=advice)


def _split_folder(folder: Path, names: tuple[str, ...]) -> Path:
    for name in names:
        if (folder / name).is_dir():
            return folder / name
    raise ConfigError(
        f"there are no pictures (expected: a folder {' or '.join(names)} in {folder}). Put one folder for each class "
        "in it, or correct dataset.path, --data-root or ONWARD_DATA."
    )


def _classes(split: Path) -> list[str]:
    return sorted(entry.name for entry in os.scandir(split) if entry.is_dir() and not entry.name.startswith("."))


def _list(split: Path, classes: list[str]) -> _Listing:
    """List the pictures of a split.

    Raises:
        ConfigError: it has none.
    """
    files: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        names = sorted(entry for entry in os.listdir(split / name) if _is_picture(entry))
        files += [split / name / entry for entry in names]
        labels += [label] * len(names)
    if not files:
        raise ConfigError(
            f"there are no pictures in {split} (expected: <class>/* ending in {', '.join(sorted(_SUFFIXES))}). "
            "Put one folder for each class there."
        )
    return _Listing(files, labels)


def _is_picture(name: str) -> bool:
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in _SUFFIXES


def _read(
    folder: Path, train: Path, test: Path, classes: list[str], image_size: int, channels: int, train_samples: int
) -> tuple[Split, Split]:
    listings = [_list(split, classes) for split in (train, test)]
    pixels = load_pixels(folder, [listing.files for listing in listings], image_size, channels)
    first, second = (Split(x, torch.tensor(listing.labels)) for x, listing in zip(pixels, listings, strict=True))
    if train_samples:
        kept = _in_turn(first.y, train_samples)
        first = Split(first.x[kept], first.y[kept])
    return first, second


def _in_turn(labels: torch.Tensor, count: int) -> torch.Tensor:
    """Indices, rising, of ``count`` samples: the first one of every class, then the second ones, and so on.

    Args:
        labels: (samples,), rising.
        count: at most their number.
    """
    starts = torch.searchsorted(labels, labels)
    ranks = torch.arange(len(labels)) - starts
    return torch.argsort(ranks, stable=True)[:count].sort().values
