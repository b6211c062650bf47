"""SVHN: colour photographs of house numbers of 32x32 pixels, 73 257 for training and 26 032 for testing."""

from functools import partial
from pathlib import Path

import numpy as np
import torch

from pipeline.data.augment import Augment
from pipeline.data.dataset import ArrayDataset, Dataset, DataSpec, Normalisation, Split
from pipeline.data.task import Classification
from pipeline.datasets._torchvision import ensure, remedy
from pipeline.errors import ConfigError

__all__ = ["build"]

# Source: the public code of the published runs of local losses (Nøkland and Eidnes 2019).
_NORMALISATION = Normalisation(mean=(0.431, 0.430, 0.446), std=(0.197, 0.198, 0.199))

# Asking the files would cost every process that plans the import of scipy.
_NUM_IMAGES = {"train": 73_257, "extra": 531_131, "test": 26_032}


def build(
    root: Path, *, extra: bool = False, augment: Augment = Augment(), download: bool = True
) -> Dataset:
    """Find SVHN: inputs (3, 32, 32), 10 classes.

    Args:
        root: folder of ``train_32x32.mat``, ``test_32x32.mat`` and ``extra_32x32.mat``.
        extra: train on the 531 131 easier images as well, as the published figures do; 1.3 GB to download.
        augment: augmentation of the training images.
        download: fetch missing files.

    Raises:
        ConfigError: a file is missing and could not be downloaded.
    """
    names = ["train", "extra"] if extra else ["train"]
    train, test = [_file(root, name) for name in names], _file(root, "test")
    splits = [{"split": name} for name in [*names, "test"]]
    ensure("svhn", [*train, test], root=root, class_name="SVHN", splits=splits, download=download)
    spec = DataSpec((3, 32, 32), Classification(10), sum(_NUM_IMAGES[name] for name in names), _NUM_IMAGES["test"])
    advice = remedy(root / "*_32x32.mat")
    read = partial(_read, train, test)
    return ArrayDataset("svhn", spec, read, augment=augment, normalisation=_NORMALISATION, remedy=advice)


def _file(root: Path, name: str) -> Path:
    return root / f"{name}_32x32.mat"


def _read(train: list[Path], test: Path) -> tuple[Split, Split]:
    parts = [_split(path) for path in train]
    x, y = torch.cat([part.x for part in parts]), torch.cat([part.y for part in parts])
    return Split(x, y), _split(test)


def _split(path: Path) -> Split:
    # Imported here: only the ends of the pipeline read images, and only SVHN needs scipy.
    from scipy.io import loadmat

    try:
        with path.open("rb") as file:
            contents = loadmat(file)
        pixels = np.ascontiguousarray(contents["X"].transpose(3, 2, 0, 1))  # (images, channels, height, width)
        labels = contents["y"].reshape(-1).astype(np.int64) % 10  # the digit 0 is labelled 10
    # scipy raises whatever it stumbles over, classes of its own and of zlib among them.
    except Exception as error:
        raise ConfigError(
            f"{path} is not a file of SVHN (given: {type(error).__name__}: {error}, expected: a MATLAB file with "
            f"X and y). {remedy(path)}"
        ) from error
    return Split(torch.from_numpy(pixels), torch.from_numpy(labels))
