"""Delayed copy: random symbols, to be said again a few steps later. Made on the spot."""

from functools import partial
from pathlib import Path
from typing import Annotated

import torch
from torch import Tensor

from pipeline.data.chunks import chunked, cut
from pipeline.data.dataset import ArrayDataset, Dataset, DataSpec, Split
from pipeline.data.position_tasks import PositionClasses
from pipeline.errors import ConfigError
from pipeline.numerics.seeds import derive
from pipeline.ranges import Count, Natural, Range, Seed

__all__ = ["build"]


def build(
    root: Path,
    *,
    length: Count = 20,
    delay: Natural = 1,
    symbols: Annotated[int, Range(2, 1000)] = 2,
    chunk: Natural = 0,
    num_train: Count = 2000,
    num_test: Count = 500,
    sample_seed: Seed = 0,
) -> Dataset:
    """Make the data set: inputs (length,) tokens, a class at each position, ``symbols + 1`` in all.

    The label at step t is the symbol of step ``t - delay``, and in the first steps the class ``symbols``, a blank. A
    network that forgets everything has 1 / symbols right of the others.

    Args:
        root: not read.
        length: steps of a sequence.
        delay: steps until a symbol is due, below ``length``.
        symbols: different ones.
        chunk: steps of a sample, a divisor of ``length``; the next ones of the same sequence are in the next batch. 0:
            a sample is the whole sequence.
        num_train: number of training samples.
        num_test: number of test samples.
        sample_seed: seed of the samples, apart from the run's seed, so that runs of several seeds share their data.

    Raises:
        ConfigError: nothing is due within a sequence, or chunks do not make one up.
    """
    if delay >= length:
        raise ConfigError(
            f"nothing is due within a sample (given: dataset.delay = {delay} with dataset.length = {length}, expected: "
            "a delay below the length). Lower dataset.delay."
        )
    task = PositionClasses(symbols + 1, (length,))
    spec = DataSpec((length,), task, num_train, num_test, input_dtype=torch.int64, num_tokens=symbols)
    return ArrayDataset(
        "delayed_copy", chunked(spec, chunk, "delayed_copy"), partial(_make, spec, delay, symbols, sample_seed, chunk)
    )  # fmt: skip


def _make(spec: DataSpec, delay: int, symbols: int, sample_seed: int, chunk: int) -> tuple[Split, Split]:
    first, second = (
        _split(_draw(purpose, count, spec.input_shape[0], symbols, sample_seed), delay, symbols, spec)
        for purpose, count in (("train", spec.num_train), ("test", spec.num_test))
    )
    return cut((first, second), chunk)


def _draw(purpose: str, count: int, length: int, symbols: int, sample_seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(derive(sample_seed, "delayed_copy", purpose))
    return torch.randint(symbols, (count, length), generator=generator)


def _split(x: Tensor, delay: int, symbols: int, spec: DataSpec) -> Split:
    blank = torch.full((len(x), delay), symbols)
    return Split(x, torch.cat([blank, x[:, : x.shape[1] - delay]], 1).to(spec.task.label_dtype))
