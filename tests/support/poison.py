"""Numbers that are not finite, where a test wants them: in the data, in a gradient, in a buffer."""

import math

import torch
from torch import nn

from pipeline.data.dataset import ArrayDataset, DataSpec, Split
from pipeline.data.task import Classification

NUM_TRAIN, FEATURES = 60, 12


def build(root, *, value: str = "nan", bad: tuple[int, ...] = ()):
    """A data set, by dotted name: noise, with ``value`` (text: options are finite) in samples ``bad``."""
    spec = DataSpec((FEATURES,), Classification(3), NUM_TRAIN, 12)

    def read():
        generator = torch.Generator().manual_seed(5)
        splits = [Split(torch.randn(n, FEATURES, generator=generator), torch.arange(n) % 3) for n in (NUM_TRAIN, 12)]
        splits[0].x[list(bad)] = float(value)
        return splits

    return ArrayDataset("poison", spec, read)


class PoisonedGradient(nn.Module):
    """Sends nan back for about every fifth batch, told by what is in it, and nothing else is changed."""

    def forward(self, x):
        return _Poison.apply(x) if self.training and is_poisoned(x) else x


class _Poison(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient * float("nan")


def is_poisoned(x):
    total = x.detach().double().pow(3).sum().abs().item()
    return math.isfinite(total) and int(total * 1e3) % 5 == 1


class BrokenLater(nn.Module):
    """A buffer that is infinite from some batch on, and that nothing reads."""

    def __init__(self, good):
        super().__init__()
        self.good = good
        self.register_buffer("seen", torch.zeros(()))
        self.register_buffer("mask", torch.full((3,), float("-inf")))  # infinite from the start, as masks are

    def forward(self, x):
        if self.training:
            self.seen.copy_(self.seen + (1.0 if self.seen < self.good else float("inf")))
        return x


def _net(*extra):
    return nn.Sequential(
        nn.Linear(FEATURES, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 16), nn.BatchNorm1d(16), *extra,
        nn.ReLU(), nn.Linear(16, 3),
    )  # fmt: skip


def poisoned():
    """Three blocks; the gradients of the middle one are nan now and then."""
    return _net(PoisonedGradient())


def masked():
    """Three blocks; a mask in the middle one holds infinities, and all is well."""
    return _net(BrokenLater(10**6))


def broken_later():
    """Three blocks; a buffer of the middle one is infinite after eight batches, and no loss is."""
    return _net(BrokenLater(8))
