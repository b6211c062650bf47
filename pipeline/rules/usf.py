"""Uniform sign-concordant feedback: backpropagation through the signs of the weights alone (Liao 2016)."""

from pipeline.learning.rule import BlockSpec, LearningRule
from pipeline.learning.sign_symmetry import Scale, SignSymmetry
from pipeline.network.block import Block

__all__ = ["UniformSign", "build"]


class UniformSign(SignSymmetry):
    """Uniform sign-concordant feedback: ``gamma_(l-1) = s delta_l sign(W_l)``.

    ``delta_l = gamma_l * phi'(a_l)``, ``G_W = delta_l^T z_(l-1)``.
    The number s is fixed, the signs are those of the forward pass. Layers other than the affine one keep their exact
    gradients.

    Source: Liao, Leibo and Poggio, "How Important is Weight Symmetry in Backpropagation?" (2016), uSF, V = sign(W).
    Deviation: s, the standard deviation of the weight's initialisation, as in Xiao et al., "Biologically-Plausible
    Learning Algorithms Can Scale to Large Datasets" (2018); without it errors grow with every block.
    """

    def magnitudes(self) -> float:
        """See :class:`SignSymmetry`."""
        return self.scale


def build(block: Block, spec: BlockSpec, *, scale: Scale = "xavier") -> LearningRule:
    """Make the rule of one block; see :class:`SignSymmetry` for its form and ``scale``."""
    return UniformSign(block, spec, "usf", scale)
