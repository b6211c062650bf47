"""CIFAR-100: colour photographs of 32x32 pixels in 100 classes, 50 000 for training and 10 000 for testing."""

from pathlib import Path

from pipeline.data.augment import Augment
from pipeline.data.dataset import Dataset, Normalisation
from pipeline.datasets._cifar import Layout, build_cifar

__all__ = ["build"]

# Source: the published runs of local losses (Nøkland and Eidnes 2019).
_NORMALISATION = Normalisation(mean=(0.438, 0.418, 0.377), std=(0.300, 0.287, 0.294))

_LAYOUT = Layout(
    name="cifar100",
    class_name="CIFAR100",
    folder="cifar-100-python",
    train=("train",),
    test=("test",),
    label_key="fine_labels",
    num_classes=100,
    num_train=50_000,
    num_test=10_000,
)


def build(root: Path, *, augment: Augment = Augment(), download: bool = True) -> Dataset:
    """Find CIFAR-100: inputs (3, 32, 32), 100 classes.

    Args:
        root: folder of ``cifar-100-python``.
        augment: augmentation of the training images.
        download: fetch missing files.

    Raises:
        ConfigError: a file is missing and could not be downloaded.
    """
    return build_cifar(_LAYOUT, root, _NORMALISATION, augment, download)
