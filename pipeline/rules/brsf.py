"""Batch-wise random sign-concordant feedback: the weights' signs, magnitudes drawn anew each time (Liao 2016)."""

from torch import Tensor

from pipeline.learning.rule import BlockSpec, LearningRule
from pipeline.learning.sign_symmetry import Scale, SignSymmetry
from pipeline.network.block import Block

__all__ = ["BatchRandomSign", "build"]


class BatchRandomSign(SignSymmetry):
    """Batch-wise random sign-concordant feedback: ``gamma_(l-1) = delta_l (|R| * sign(W_l))``.

    ``delta_l = gamma_l * phi'(a_l)``, ``G_W = delta_l^T z_(l-1)``.
    R is drawn uniform in +-s*sqrt(3) for every micro-batch, from that micro-batch's own seed, when the block learns;
    the signs are those of the forward pass. Layers other than the affine one keep their exact gradients.

    Source: Liao, Leibo and Poggio, "How Important is Weight Symmetry in Backpropagation?" (2016), brSF. Deviations:
    the scale s; and each micro-batch has an R of its own, where theirs is drawn once a step.
    """

    def magnitudes(self) -> Tensor:
        """See :class:`SignSymmetry`; other numbers in every call."""
        return self.draw()


def build(block: Block, spec: BlockSpec, *, scale: Scale = "xavier") -> LearningRule:
    """Make the rule of one block; see :class:`SignSymmetry` for its form and ``scale``."""
    return BatchRandomSign(block, spec, "brsf", scale)
