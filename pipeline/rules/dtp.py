"""Difference target propagation: targets through learned inverses, their common error cancelled (Lee 2015)."""

from pipeline.learning.rule import BlockSpec, LearningRule
from pipeline.learning.targets import TargetPropagation, Targets
from pipeline.network.block import Block

__all__ = ["DifferenceTargetPropagation", "build"]


class DifferenceTargetPropagation(TargetPropagation):
    """Target propagation whose targets cancel the error of the learned inverse (Lee et al. 2015).

    :class:`TargetPropagation` with ``t_(l-1) = z_(l-1) + G_l(t_l) - G_l(z_l)``.
    The error of an imperfect inverse cancels: a block whose output is on target leaves the block below where it is.
    Both terms use the same G, that of the forward pass.

    Source: Lee, Zhang, Fischer and Bengio, "Difference Target Propagation" (2015). Deviations: inverse and block are
    trained on every batch in turn, his passes alternate (``alternate = "epoch"``); and under a hard unit G learns to
    reconstruct the block's input, g(z) of the block below, where his discrete and stochastic nets reconstruct z.
    """


def build(block: Block, spec: BlockSpec, *, targets: Targets = Targets()) -> LearningRule:
    """Make the rule of one block; see :class:`TargetPropagation`."""
    return DifferenceTargetPropagation(block, spec, "dtp", targets, difference=True)
