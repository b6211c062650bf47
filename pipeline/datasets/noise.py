"""Noise of any shape with random labels, made on the spot, to measure speed and memory."""

from functools import partial
from math import prod
from pathlib import Path
from typing import Annotated

import torch

from pipeline.data.dataset import ArrayDataset, Dataset, DataSpec, Split
from pipeline.data.task import Classification
from pipeline.errors import ConfigError
from pipeline.numerics.seeds import derive
from pipeline.ranges import MOST_COUNTED, Count, Range, Seed

__all__ = ["build"]


def build(
    root: Path,
    *,
    shape: tuple[Count, ...] = (784,),
    num_classes: Annotated[int, Range(2, MOST_COUNTED)] = 10,
    num_train: Count = 1024,
    num_test: Count = 64,
    sample_seed: Seed = 0,
) -> Dataset:
    """Make the data set: inputs from N(0, 1), (samples, *shape), and labels uniform over the classes.

    Args:
        root: not read.
        shape: shape of one sample: ``(784,)``, or ``(3, 32, 32)`` for an image.
        num_classes: number of classes, at least 2.
        num_train: number of training samples, at least 1.
        num_test: number of test samples, at least 1.
        sample_seed: seed of the samples, apart from the run's seed, so that runs of several seeds share their data.

    Raises:
        ConfigError: a size is below its minimum.
    """
    least = {"num_classes": 2, "num_train": 1, "num_test": 1}
    for name, value in (("num_classes", num_classes), ("num_train", num_train), ("num_test", num_test)):
        if value < least[name]:
            raise ConfigError(
                f"out of range (given: dataset.{name}={value}, expected: {least[name]} or more). Raise it."
            )
    if not shape or prod(shape) < 1 or min(shape) < 1:
        raise ConfigError(
            f"the samples' shape is out of range (given: dataset.shape={list(shape)}, expected: sizes of at least 1). "
            "Change it."
        )
    spec = DataSpec(shape, Classification(num_classes), num_train, num_test)
    return ArrayDataset("noise", spec, partial(_make, spec, sample_seed))


def _make(spec: DataSpec, sample_seed: int) -> tuple[Split, Split]:
    train = _draw("train", spec, spec.num_train, sample_seed)
    return train, _draw("test", spec, spec.num_test, sample_seed)


def _draw(purpose: str, spec: DataSpec, count: int, sample_seed: int) -> Split:
    generator = torch.Generator().manual_seed(derive(sample_seed, "noise", purpose))
    x = torch.randn(count, *spec.input_shape, generator=generator)
    return Split(x, torch.randint(spec.task.num_outputs, (count,), generator=generator))
