"""The user's own pictures, a folder for each class: ``path/train/<class>/*`` and ``path/test/<class>/*`` (or val)."""

from pathlib import Path
from typing import Annotated, Literal

from pipeline.data.augment import Augment
from pipeline.data.dataset import Dataset, Normalisation
from pipeline.datasets._folder import build_folder
from pipeline.errors import ConfigError
from pipeline.ranges import LARGEST, Natural, Positive, Range

__all__ = ["build"]


def build(
    root: Path,
    *,
    path: str,
    image_size: Annotated[int, Range(1, 16_384)],
    channels: Literal[1, 3] = 3,
    mean: tuple[Annotated[float, Range(-LARGEST, LARGEST)], ...] | None = None,
    std: tuple[Positive, ...] | None = None,
    train_samples: Natural = 0,
    augment: Augment = Augment(),
) -> Dataset:
    """Find the user's images: inputs (channels, image_size, image_size), as many classes as there are folders.

    Args:
        root: folder of all data sets.
        path: folder of the pictures, absolute or relative to ``root``.
        image_size: edge in pixels: the shorter side is resized to it, the longer one cut to it about the centre.
        channels: 1 (grey) or 3 (colour).
        mean: mean of each channel, on pixels in [0, 1]; 0 if left out.
        std: standard deviation of each channel; 1 if left out.
        train_samples: training pictures used, the first ones of every class in turn; 0 for all.
        augment: augmentation of the training images.

    Raises:
        ConfigError: a split is missing or empty, the splits differ in their classes, there are fewer training pictures
            than ``train_samples``, or an option is out of range.
    """
    if image_size < 1:
        raise ConfigError(
            f"the image size is out of range (given: dataset.image_size={image_size}, expected: 1 or more). Raise it."
        )
    normalisation = Normalisation(mean or (0.0,) * channels, std or (1.0,) * channels)
    if len(normalisation.mean) != channels or len(normalisation.std) != channels or min(normalisation.std) <= 0:
        raise ConfigError(
            f"the normalisation does not fit the pictures (given: dataset.mean={mean}, dataset.std={std}, "
            f"expected: {channels} numbers in each, std above 0). Write one number for each channel."
        )
    return build_folder("image_folder", root / path, image_size, channels, augment, normalisation, train_samples)
