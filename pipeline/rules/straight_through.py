"""Straight-through estimator: backpropagation with derivative 1 for hard units (Hinton 2012, Bengio 2013)."""

from pipeline.learning.estimated import Estimated
from pipeline.learning.rule import BlockSpec, LearningRule
from pipeline.network.block import Block

__all__ = ["StraightThrough", "build"]


class StraightThrough(Estimated):
    """Straight-through estimator: ``db/da = 1`` for the whole unit, its smooth part included.

    Source: pass-through in Bengio, Léonard and Courville, "Estimating or Propagating Gradients Through Stochastic
    Neurons for Conditional Computation" (2013). Ororbia et al. 2018 describe the identity for the sampling alone,
    which is rule sigmoid_adjusted here.
    """


def build(block: Block, spec: BlockSpec) -> LearningRule:
    """Make the rule of one block; see :class:`Estimated`. Without a hard unit it is backpropagation."""
    return StraightThrough(block, spec, "straight_through", whole=True)
