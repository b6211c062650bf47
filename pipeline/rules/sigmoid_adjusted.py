"""Sigmoid-adjusted straight-through estimator: a sample has the derivative of its probability (Bengio 2013)."""

from pipeline.learning.estimated import Estimated
from pipeline.learning.rule import BlockSpec, LearningRule
from pipeline.network.block import Block

__all__ = ["SigmoidAdjusted", "build"]


class SigmoidAdjusted(Estimated):
    """Sigmoid-adjusted estimator: ``db/da = f'(a)``, the derivative of the unit's smooth part.

    That is ``sigma'(a)`` for Bernoulli units, and the derivative of tanh or hard tanh for the others.

    Source: Bengio, Léonard and Courville, "Estimating or Propagating Gradients Through Stochastic Neurons for
    Conditional Computation" (2013).
    """


def build(block: Block, spec: BlockSpec) -> LearningRule:
    """Make the rule of one block; see :class:`Estimated`. Without a hard unit it is backpropagation."""
    return SigmoidAdjusted(block, spec, "sigmoid_adjusted", whole=False)
