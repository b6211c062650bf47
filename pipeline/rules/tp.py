"""Target propagation: each block's target is its upper neighbour's, through a learned inverse (Bengio 2014)."""

from pipeline.learning.rule import BlockSpec, LearningRule
from pipeline.learning.targets import TargetPropagation, Targets
from pipeline.network.block import Block

__all__ = ["PlainTargetPropagation", "build"]


class PlainTargetPropagation(TargetPropagation):
    """Target propagation: :class:`TargetPropagation` with ``t_(l-1) = G_l(t_l)``.

    An imperfect inverse moves the blocks below even where the output is right; ``dtp`` corrects for that.

    Source: Bengio, "How Auto-Encoders Could Provide Credit Assignment in Deep Networks via Target Propagation"
    (2014), in the form in which Lee et al. (2015) compare it.
    """


def build(block: Block, spec: BlockSpec, *, targets: Targets = Targets()) -> LearningRule:
    """Make the rule of one block; see :class:`TargetPropagation`."""
    return PlainTargetPropagation(block, spec, "tp", targets, difference=False)
