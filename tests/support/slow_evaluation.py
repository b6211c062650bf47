"""An mlp whose first block takes its time in the first evaluation: ``tests.support.slow_evaluation``."""

import functools
import time

from torch import nn

from pipeline.models import mlp
from pipeline.network.block import Blueprint


class Slow(nn.Module):
    """Passes its input through; ``num_batches`` in evaluation are late."""

    def __init__(self, seconds, num_batches):
        super().__init__()
        self._seconds, self._num_left = seconds, num_batches

    def forward(self, x):
        if not self.training and self._num_left > 0:
            self._num_left -= 1
            time.sleep(self._seconds)
        return x


def _make(inner, seconds, num_batches):
    block = inner()
    block.body = nn.Sequential(*block.body, Slow(seconds, num_batches))
    return block


def build(input_shape, num_outputs, *, seconds: float = 0.05, num_batches: int = 50):
    """As a narrow mlp."""
    first, *others = mlp.build(input_shape, num_outputs, depth=3, width=4, dropout=0.0, norm="none")
    return [Blueprint(functools.partial(_make, first.make, seconds, num_batches), first.name), *others]
