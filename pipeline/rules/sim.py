"""Sim: every block makes its samples resemble each other as their labels do (Nøkland and Eidnes 2019)."""

from typing import Any

from torch import Tensor

from pipeline.learning.heads import clear_output
from pipeline.learning.local_rule import Output
from pipeline.learning.positions import check_maps
from pipeline.learning.rule import BlockSpec, LearningRule
from pipeline.learning.similarity import SimilarityHead, similarity_loss
from pipeline.learning.unsupervised import PartlyUnsupervised, Unsupervised
from pipeline.network.block import Block

__all__ = ["Sim", "build"]


class Sim(PartlyUnsupervised):
    """Local rule: hidden blocks minimise ``mean((S(R(h)) - S(one-hot y))^2)`` over the batch x batch pairs.

    R is learned with the block. There is no decoder: such a block has no accuracy of its own. A binary task counts
    as two classes.

    Source: Nøkland and Eidnes, "Training Neural Networks with Local Error Signals" (2019), the similarity matching
    loss; the mean over pairs is that of the authors' code, their slides write a sum.
    """

    splits_batches = False

    def __init__(self, block: Block, spec: BlockSpec, options: Unsupervised = Unsupervised()) -> None:
        super().__init__(block, spec, options)
        check_maps(block, spec.body_shape, "sim")
        self.project = SimilarityHead(spec.body_shape)
        self.add_unsupervised(self.project)
        self.num_classes = max(2, spec.task.num_outputs)

    def loss(self, context: Any) -> Tensor:
        """The similarity loss."""
        h, y = context[:2]
        return self.mixed(similarity_loss(self.project(h), y, self.num_classes), context)

    def decode(self, context: Any) -> None:
        """None."""


def build(block: Block, spec: BlockSpec, *, options: Unsupervised = Unsupervised()) -> LearningRule:
    """Make the rule of one block; the last block descends on the output loss, its weight starting at 0.

    Args:
        options: see :class:`Unsupervised`.
    """
    if spec.is_last:
        return Output(clear_output(block), spec)
    return Sim(block, spec, options)
