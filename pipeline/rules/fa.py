"""Feedback alignment: backpropagation through fixed random matrices in place of the weights (Lillicrap 2014)."""

import torch
from torch import Tensor

from pipeline.learning.alignment import Alignment
from pipeline.learning.rule import BlockSpec, LearningRule
from pipeline.network.block import Block

__all__ = ["FeedbackAlignment", "build"]


class FeedbackAlignment(Alignment):
    """Feedback alignment: ``gamma_(l-1) = delta_l B_l`` with a fixed random B.

    ``delta_l = gamma_l * phi'(a_l)``, ``G_W = delta_l^T z_(l-1)``. B has the shape of the block's weight, is drawn
    uniform in +-1/sqrt(fan-in) and never trained. Everything else, normalisation among it, keeps its exact gradient.

    Source: Lillicrap, Cownden, Tweed and Akerman, "Random synaptic feedback weights support error backpropagation for
    deep learning" (2016).
    """

    matrix: Tensor

    def __init__(self, block: Block, spec: BlockSpec) -> None:
        super().__init__(block, spec, "fa")
        self.draws = self.dense is None
        if self.uses_matrix:
            weight = self.split.affine.weight
            bound = 1.0 / weight[0].numel() ** 0.5
            self.register_buffer("matrix", torch.empty_like(weight, requires_grad=False).uniform_(-bound, bound))

    def feedback_matrix(self, noted: Tensor | None) -> Tensor:
        """See :class:`Alignment`; the same in every step."""
        return self.matrix


def build(block: Block, spec: BlockSpec) -> LearningRule:
    """Make the rule of one block; see :class:`Alignment` for its form."""
    return FeedbackAlignment(block, spec)
