"""Two superposed sines of random phase, to predict the next value. Made on the spot."""

from functools import partial
from math import pi
from pathlib import Path

import torch

from pipeline.data.chunks import chunked, cut
from pipeline.data.dataset import ArrayDataset, Dataset, DataSpec, Split
from pipeline.data.position_tasks import Regression
from pipeline.numerics.seeds import derive
from pipeline.ranges import Count, Natural, NonNegative, Positive, Seed

__all__ = ["build"]


def build(
    root: Path,
    *,
    length: Count = 200,
    periods: tuple[Positive, ...] = (20.0, 31.0),
    noise: NonNegative = 0.0,
    chunk: Natural = 0,
    num_train: Count = 1000,
    num_test: Count = 200,
    sample_seed: Seed = 0,
) -> Dataset:
    """Make the data set: inputs (length, 1), and the value behind each.

    A value is the mean of one sine for each period, each with a phase that is drawn for the sample. From one value
    alone the next cannot be told; from two to the power of the number of sines it can.

    Args:
        root: not read.
        length: steps of a sequence.
        periods: steps of a period, of each sine.
        noise: standard deviation of the noise on inputs and labels.
        chunk: steps of a sample, a divisor of ``length``; the next ones of the same sequence are in the next batch. 0:
            a sample is the whole sequence.
        num_train: number of training samples.
        num_test: number of test samples.
        sample_seed: seed of the samples, apart from the run's seed, so that runs of several seeds share their data.

    Raises:
        ConfigError: chunks do not make up a sequence.
    """
    spec = DataSpec((length, 1), Regression(1, (length,)), num_train, num_test)
    read = partial(_make, spec, periods, noise, sample_seed, chunk)
    return ArrayDataset("sine", chunked(spec, chunk, "sine"), read)


def _make(
    spec: DataSpec, periods: tuple[float, ...], noise: float, sample_seed: int, chunk: int
) -> tuple[Split, Split]:
    counts = {"train": spec.num_train, "test": spec.num_test}
    first, second = (_draw(p, n, spec.input_shape[0], periods, noise, sample_seed) for p, n in counts.items())
    return cut((first, second), chunk)


def _draw(
    purpose: str, count: int, length: int, periods: tuple[float, ...], noise: float, sample_seed: int
) -> Split:
    generator = torch.Generator().manual_seed(derive(sample_seed, "sine", purpose))
    steps = torch.arange(length + 1, dtype=torch.float64)
    turns = steps.unsqueeze(1) / torch.tensor(periods, dtype=torch.float64)  # (length + 1, sines)
    phases = torch.rand(count, 1, len(periods), generator=generator, dtype=torch.float64)
    values = ((turns + phases) * (2 * pi)).sin().mean(2)
    values += noise * torch.randn(values.shape, generator=generator, dtype=torch.float64)
    series = values.float().unsqueeze(2)
    return Split(series[:, :-1].contiguous(), series[:, 1:].contiguous())
