"""Fixed random sign-concordant feedback: magnitudes drawn once, signs that follow the weights (Liao 2016)."""

from torch import Tensor

from pipeline.learning.rule import BlockSpec, LearningRule
from pipeline.learning.sign_symmetry import Scale, SignSymmetry
from pipeline.network.block import Block

__all__ = ["FixedRandomSign", "build"]


class FixedRandomSign(SignSymmetry):
    """Fixed random sign-concordant feedback: ``gamma_(l-1) = delta_l (|R| * sign(W_l))``.

    ``delta_l = gamma_l * phi'(a_l)``, ``G_W = delta_l^T z_(l-1)``.
    R is drawn uniform in +-s*sqrt(3) once and never trained; the signs are those of the forward pass. Layers other
    than the affine one keep their exact gradients.

    Source: Liao, Leibo and Poggio, "How Important is Weight Symmetry in Backpropagation?" (2016), frSF. Deviation: the
    scale s.
    """

    matrix: Tensor

    def __init__(self, block: Block, spec: BlockSpec, scale: Scale) -> None:
        super().__init__(block, spec, "frsf", scale)
        if self.uses_matrix:
            self.register_buffer("matrix", self.draw())

    def magnitudes(self) -> Tensor:
        """See :class:`SignSymmetry`."""
        return self.matrix


def build(block: Block, spec: BlockSpec, *, scale: Scale = "xavier") -> LearningRule:
    """Make the rule of one block; see :class:`SignSymmetry` for its form and ``scale``."""
    return FixedRandomSign(block, spec, scale)
