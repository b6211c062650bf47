"""Slope annealing: a sample has the derivative of its probability, which grows steeper epoch by epoch (Chung 2017)."""

from typing import Annotated

from pipeline.learning.estimated import Estimated
from pipeline.learning.rule import BlockSpec, LearningRule
from pipeline.network.block import Block
from pipeline.ranges import LARGEST, NonNegative, Range

__all__ = ["SlopeAnnealing", "build"]


class SlopeAnnealing(Estimated):
    """Slope annealing: ``p = sigma(m a)``, ``db/da = m sigma'(m a)``, with ``m = min(limit, 1 + growth * epoch)``.

    With growing m the unit approaches a threshold and the estimate its derivative; evaluation uses the same m. Hard
    units behind another f have ``f(m a)``.

    Source: Chung, Ahn and Bengio, "Hierarchical Multiscale Recurrent Neural Networks" (2017).

    Args:
        block: has at most one hard unit, directly in ``nn.Sequential``.
        growth: growth of m in one epoch, at least 0.
        limit: maximum of m, at least 1.
    """

    def __init__(self, block: Block, spec: BlockSpec, *, growth: float, limit: float) -> None:
        super().__init__(block, spec, "slope_annealing", whole=False, sloped=True)
        self.growth, self.limit = growth, limit

    def begin_epoch(self, epoch: int) -> None:
        """See :class:`LearningRule`."""
        if self.slope is not None:
            self.slope.fill_(min(self.limit, 1.0 + self.growth * epoch))


def build(
    block: Block, spec: BlockSpec, *, growth: NonNegative = 0.04, limit: Annotated[float, Range(1, LARGEST)] = 5.0
) -> LearningRule:
    """Make the rule of one block; backpropagation where it has no hard unit.

    Args:
        block: has at most one hard unit, directly in ``nn.Sequential``.
        growth: growth of the slope in one epoch, at least 0.
        limit: maximum of the slope, at least 1.

    Raises:
        ValueError: ``block`` is not of that form, or the slope would fall.
    """
    if not (growth >= 0 and limit >= 1):
        raise ValueError(
            f"slope_annealing starts with the slope 1 and cannot lower it (given: rule.growth = {growth}, rule.limit "
            f"= {limit}, expected: at least 0, at least 1). Change them."
        )
    return SlopeAnnealing(block, spec, growth=growth, limit=limit)
