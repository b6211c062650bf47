"""MNIST: handwritten digits of 28x28 pixels, 60 000 for training and 10 000 for testing."""

from pathlib import Path

from pipeline.data.augment import Augment
from pipeline.data.dataset import Dataset, Normalisation
from pipeline.datasets._idx import build_idx

__all__ = ["build"]

# Source: the published runs of local losses (Nøkland and Eidnes 2019).
_NORMALISATION = Normalisation(mean=(0.1307,), std=(0.3081,))


def build(
    root: Path,
    *,
    crop_padding: int = 0,
    flip: bool = False,
    cutout: int = 0,
    normalise: bool = True,
    train_samples: int = 0,
    download: bool = True,
) -> Dataset:
    """Inputs (1, 28, 28), 10 classes.

    Args:
        root: the folder that holds ``MNIST/raw``.
        crop_padding: pixels; a crop is taken anywhere after padding by so much.
        flip: mirror half of the training images.
        cutout: edge of a square that is set to 0, in pixels.
        normalise: to mean 0 and deviation 1; otherwise pixels stay in [0, 1].
        train_samples: the first so many training images; 0 for all. Some published runs hold the last 10 000 back.
        download: fetch what is missing.

    Raises:
        ConfigError: a file is missing and could not be downloaded, or is no IDX file; or there are not so many
            training images.
    """
    augment = Augment(crop_padding, flip, cutout)
    return build_idx("mnist", root, "MNIST", _NORMALISATION if normalise else None, augment, download, train_samples)
