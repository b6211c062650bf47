"""Fashion-MNIST: pictures of clothes of 28x28 pixels, 60 000 for training and 10 000 for testing."""

from pathlib import Path

from pipeline.data.augment import Augment
from pipeline.data.dataset import Dataset, Normalisation
from pipeline.datasets._idx import IdxOptions, build_idx

__all__ = ["build"]

# Source: the published runs of local losses (Nøkland and Eidnes 2019).
_NORMALISATION = Normalisation(mean=(0.286,), std=(0.353,))


def build(root: Path, *, augment: Augment = Augment(), options: IdxOptions = IdxOptions()) -> Dataset:
    """Find Fashion-MNIST in ``root``, folder ``FashionMNIST/raw``: inputs (1, 28, 28), 10 classes.

    See :func:`build_idx`.
    """
    return build_idx("fashion_mnist", root, "FashionMNIST", _NORMALISATION, augment, options)
