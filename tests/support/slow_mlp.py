"""The mlp with blocks that take their time at random, by dotted name: ``tests.support.slow_mlp``."""

import functools
import random
import time

from torch import nn

from pipeline.models import mlp
from pipeline.network.block import Blueprint


class Slow(nn.Module):
    """Passes its input through, late every third time or so."""

    def forward(self, x):
        if random.random() < 0.3:  # Python's own generator: not the one that weights and dropout draw from
            time.sleep(random.random() * 0.004)
        return x


def _make(inner):
    block = inner()
    block.body = nn.Sequential(*block.body, Slow())
    return block


def build(input_shape, num_outputs, *, depth: int = 4, width: int = 32, dropout: float = 0.2):
    """As the mlp."""
    blueprints = mlp.build(input_shape, num_outputs, depth=depth, width=width, dropout=dropout,
                           activation="leaky_relu")  # fmt: skip
    return [Blueprint(functools.partial(_make, b.make), b.name) for b in blueprints]
