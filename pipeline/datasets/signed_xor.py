"""Signed exclusive or: points of a square, labelled by whether their two coordinates have the same sign.

Made on the spot. Source: Mertens 2023, 1000 training and 1000 test points drawn from U(-1, 1)^2, without noise.
"""

from functools import partial
from pathlib import Path

import torch

from pipeline.data.dataset import ArrayDataset, Dataset, DataSpec, Split
from pipeline.data.task import Binary
from pipeline.errors import ConfigError
from pipeline.numerics.seeds import derive
from pipeline.ranges import Count, NonNegative, Seed

__all__ = ["build"]


def build(
    root: Path, *, num_train: Count = 1000, num_test: Count = 1000, noise: NonNegative = 0.0, sample_seed: Seed = 0
) -> Dataset:
    """Make the data set: inputs (2,), one output.

    Args:
        root: not read.
        num_train: number of training points, at least 1.
        num_test: number of test points, at least 1.
        noise: standard deviation of the noise on the coordinates of both splits, added after labelling.
        sample_seed: seed of the points, apart from the run's seed, so that runs of several seeds share their data.

    Raises:
        ConfigError: a number is below its minimum.
    """
    for name, value, least in (("num_train", num_train, 1), ("num_test", num_test, 1), ("noise", noise, 0)):
        if value < least:
            raise ConfigError(f"out of range (given: dataset.{name}={value}, expected: {least} or more). Raise it.")
    spec = DataSpec((2,), Binary(), num_train, num_test, has_pixels=False)
    return ArrayDataset("signed_xor", spec, partial(_make, num_train, num_test, noise, sample_seed))


def _make(num_train: int, num_test: int, noise: float, sample_seed: int) -> tuple[Split, Split]:
    return _points("train", num_train, noise, sample_seed), _points("test", num_test, noise, sample_seed)


def _points(purpose: str, count: int, noise: float, sample_seed: int) -> Split:
    generator = torch.Generator().manual_seed(derive(sample_seed, "signed_xor", purpose))
    x = torch.rand(count, 2, generator=generator) * 2 - 1
    labels = (x[:, 0] * x[:, 1] >= 0).long()
    return Split(x + noise * torch.randn(count, 2, generator=generator), labels)
