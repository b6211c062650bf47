"""The linear toy of Lillicrap et al. as a config names it: its samples, its network, and feedback alignment with its B.

    dataset.name = "benchmarks.linear_toy.samples"
    model.name = "benchmarks.linear_toy.network"
    rule.name = "benchmarks.linear_toy.fa"

A net of 30-20-10 linear units learns a linear map. Any other rule trains it, too: ``rule.name=backprop``.
"""

from functools import partial
from pathlib import Path

import torch
from torch import nn

from pipeline.data.dataset import ArrayDataset, Dataset, DataSpec, Split
from pipeline.data.position_tasks import Regression
from pipeline.learning.rule import BlockSpec, LearningRule
from pipeline.network.block import Block, Blueprint
from pipeline.numerics.seeds import derive
from pipeline.ranges import Count, Positive, Seed
from pipeline.rules.fa import FeedbackAlignment

__all__ = ["fa", "network", "samples"]

_INPUTS, _OUTPUTS = 30, 10


def samples(
    root: Path, *, num_train: Count = 1600, num_test: Count = 1000, sample_seed: Seed = 0
) -> Dataset:  # fmt: skip
    """Normal inputs (30,), and 10 numbers: their image under one matrix, uniform in +-1.

    Args:
        root: not read.
        num_train: number of training samples.
        num_test: number of test samples.
        sample_seed: seed of the matrix and of the samples, apart from the run's.
    """
    spec = DataSpec((_INPUTS,), Regression(_OUTPUTS), num_train, num_test)
    return ArrayDataset("linear_toy", spec, partial(_drawn, num_train, num_test, sample_seed))


def _drawn(num_train: int, num_test: int, seed: int) -> tuple[Split, Split]:
    generator = torch.Generator().manual_seed(derive(seed, "linear toy"))
    matrix = torch.empty(_OUTPUTS, _INPUTS).uniform_(-1.0, 1.0, generator=generator)
    inputs = [torch.randn(count, _INPUTS, generator=generator) for count in (num_train, num_test)]
    first, second = (Split(x, x @ matrix.t()) for x in inputs)
    return first, second


def network(
    input_shape: tuple[int, ...], num_outputs: int, *, hidden: Count = 20, bound: Positive = 0.01
) -> list[Blueprint]:  # fmt: skip
    """Two linear layers without biases, a block each.

    Args:
        input_shape: ``(features,)``.
        num_outputs: width of the output block.
        hidden: units of the hidden block.
        bound: initial weights are uniform in plus and minus this.
    """
    sizes = ((input_shape[0], hidden), (hidden, num_outputs))
    return [Blueprint(partial(_layer, a, b, bound), f"linear {a}-{b}") for a, b in sizes]


def _layer(num_in: int, num_out: int, bound: float) -> Block:
    linear = nn.Linear(num_in, num_out, bias=False)
    nn.init.uniform_(linear.weight, -bound, bound)
    return Block(nn.Sequential(linear))


def fa(block: Block, spec: BlockSpec, *, bound: Positive = 0.5) -> LearningRule:
    """Feedback alignment, its fixed matrices uniform in +-``bound``, whatever the block's fan-in."""
    rule = FeedbackAlignment(block, spec)
    if rule.uses_matrix:
        rule.matrix.uniform_(-bound, bound)
    return rule
