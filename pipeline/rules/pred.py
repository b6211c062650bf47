"""Pred: every block is trained by the output loss of a linear classifier of its own (Nøkland and Eidnes 2019)."""

from typing import Any

import torch
from torch import Tensor

from pipeline.learning.dense import Dense
from pipeline.learning.heads import PooledHead, clear_output
from pipeline.learning.local_rule import Output
from pipeline.learning.positions import check_maps, features_of
from pipeline.learning.rule import ANY_LABELS, BlockSpec, LearningRule
from pipeline.learning.unsupervised import PartlyUnsupervised, Unsupervised
from pipeline.network.block import Block
from pipeline.ranges import Count

__all__ = ["Pred", "build"]


class Pred(PartlyUnsupervised):
    """Local rule: hidden blocks minimise ``task.loss(head(h), y)``.

    The head is linear, with bias, on average-pooled maps, or on the features at each position. Its weight starts at 0,
    so the first step trains the head and leaves the block alone.

    Source: Nøkland and Eidnes, "Training Neural Networks with Local Error Signals" (2019), the prediction loss, with
    the pool sizes of the authors' code.
    """

    learns_from = ANY_LABELS

    def __init__(
        self, block: Block, spec: BlockSpec, *, dimdec: int, options: Unsupervised = Unsupervised()
    ) -> None:
        super().__init__(block, spec, options, dense=Dense.of(block, spec.in_shape))
        shape = features_of(spec.task, spec.body_shape, "the head of pred")
        check_maps(block, shape, "pred", dimdec)
        self.head = PooledHead(shape, spec.task.num_outputs, dimdec, len(spec.task.positions))
        self.add_unsupervised(None)

    def loss(self, context: Any) -> Tensor:
        """The task's loss on the head's output."""
        h, y = context[:2]
        return self.mixed(self.spec.task.loss(self.head(h), y), context)

    def descend(self, h: Tensor, y: Tensor, weight: float) -> tuple[Tensor, Tensor]:
        """See :class:`LocalRule`."""
        return self.head.descend(self.spec.task, h, y, weight)

    def decode(self, context: Any) -> Tensor:
        """The head's output."""
        with torch.no_grad():
            scores: Tensor = self.head(context[0])
        return scores


def build(
    block: Block, spec: BlockSpec, *, dimdec: Count = 2048, options: Unsupervised = Unsupervised()
) -> LearningRule:
    """Make the rule of one block; the last block descends on the output loss, its weight starting at 0.

    Args:
        dimdec: features that the head of a convolutional block reads at most; the map is pooled to that.
        options: see :class:`Unsupervised`.
    """
    if spec.is_last:
        return Output(clear_output(block), spec)
    return Pred(block, spec, dimdec=dimdec, options=options)
