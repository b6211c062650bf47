"""CIFAR-10: colour photographs of 32x32 pixels in 10 classes, 50 000 for training and 10 000 for testing.

The original, or a copy re-encoded as JPEG (quality 75, chroma at half resolution) under ``cifar10-jpeg``. The copy is
a little harder: figures on it compare rules with each other, not with figures published for the original.
"""

import logging
from pathlib import Path
from typing import Literal

from pipeline.data.augment import Augment
from pipeline.data.dataset import Dataset, Normalisation
from pipeline.datasets._cifar import Layout, build_cifar
from pipeline.datasets._folder import build_folder
from pipeline.datasets._torchvision import missing
from pipeline.errors import ConfigError

__all__ = ["build"]

_log = logging.getLogger(__name__)

# Source: the published runs of local losses (Nøkland and Eidnes 2019).
_NORMALISATION = Normalisation(mean=(0.424, 0.415, 0.384), std=(0.283, 0.278, 0.284))

_LAYOUT = Layout(
    name="cifar10",
    class_name="CIFAR10",
    folder="cifar-10-batches-py",
    train=tuple(f"data_batch_{number}" for number in range(1, 6)),
    test=("test_batch",),
    label_key="labels",
    num_classes=10,
    num_train=50_000,
    num_test=10_000,
)
_JPEG = "cifar10-jpeg"


def build(
    root: Path,
    *,
    source: Literal["auto", "original", "jpeg"] = "auto",
    augment: Augment = Augment(),
    download: bool = True,
) -> Dataset:
    """Find CIFAR-10: inputs (3, 32, 32), 10 classes.

    Args:
        root: folder of ``cifar-10-batches-py`` or ``cifar10-jpeg/{train,test}/<class>/*.jpg``.
        source: ``auto`` takes the original if it is there, else the copy if that is, else downloads the original.
        augment: augmentation of the training images.
        download: fetch the original when it is missing.

    Raises:
        ConfigError: the chosen one is missing and could not be downloaded.
    """
    copy = root / _JPEG
    if source == "auto" and copy.is_dir() and missing(_LAYOUT.files(root)):
        _log.info("using the JPEG copy of CIFAR-10: compare rules on it, not with published figures")
        source = "jpeg"
    if source != "jpeg":
        return build_cifar(_LAYOUT, root, _NORMALISATION, augment, download)
    if not copy.is_dir():
        raise ConfigError(
            f"the JPEG copy of cifar10 is not there (expected: {copy}/train and {copy}/test). Name the folder that "
            "has it (--data-root or ONWARD_DATA), or set dataset.source to 'original'."
        )
    return build_folder("cifar10", copy, 32, 3, augment, _NORMALISATION)
