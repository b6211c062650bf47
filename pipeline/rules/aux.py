"""Aux: every block is trained by a read-out of its own behind an auxiliary net (Belilovsky et al. 2019)."""

from typing import Any

import torch
from torch import Tensor

from pipeline.learning.aux_head import AuxHead, ReadOut, read_out_of
from pipeline.learning.dense import Dense
from pipeline.learning.heads import PooledHead, clear_output
from pipeline.learning.local_rule import LocalRule, Output
from pipeline.learning.rule import ANY_LABELS, BlockSpec, LearningRule
from pipeline.network.block import Block

__all__ = ["Aux", "build"]


class Aux(LocalRule):
    """Local rule: hidden blocks minimise ``task.loss(head(h), y)``, the head an auxiliary net and a linear read-out.

    Without a net it is ``pred`` without its pooling, bit for bit. The net is trained with its block and by nothing
    else; at positions it reads each by itself, or, with private layers, what these may look at.

    Source: Belilovsky, Eickenberg and Oyallon, "Greedy Layerwise Learning Can Scale to ImageNet" (2019) and "Decoupled
    Greedy Learning of CNNs" (2019), equation 1. Deviation: read-outs start at 0, as those of ``pred``.

    Args:
        block: any.
        spec: its place.
        head: see :func:`read_out_of`.
    """

    learns_from = ANY_LABELS

    def __init__(self, block: Block, spec: BlockSpec, head: PooledHead | AuxHead) -> None:
        plain = isinstance(head, PooledHead)
        dense = Dense.of(block, spec.in_shape) if plain else None
        super().__init__(block, spec, dense=dense, trains_outlet=not plain)
        self.head = head
        self._reads_body = plain

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Any]:
        """See :class:`LocalRule`; behind an auxiliary net the context's ``h`` is the whole block's output."""
        if self._reads_body:
            return super().forward(x, y)
        out = self.block(x)
        return out.detach(), (out, y)

    def loss(self, context: Any) -> Tensor:
        """The task's loss on the head's output."""
        h, y = context[:2]
        return self.spec.task.loss(self.head(h), y)

    def descend(self, h: Tensor, y: Tensor, weight: float) -> tuple[Tensor, Tensor]:
        """See :class:`LocalRule`."""
        assert isinstance(self.head, PooledHead), "closed forms are of linear heads alone"
        return self.head.descend(self.spec.task, h, y, weight)

    def decode(self, context: Any) -> Tensor:
        """The head's output."""
        with torch.no_grad():
            scores: Tensor = self.head(context[0])
        return scores


def build(block: Block, spec: BlockSpec, *, read_out: ReadOut = ReadOut()) -> LearningRule:
    """Make the rule of one block; the last block descends on the output loss, its weight starting at 0.

    Args:
        read_out: see :class:`ReadOut`.
    """
    if spec.is_last:
        return Output(clear_output(block), spec)
    return Aux(block, spec, read_out_of(spec, read_out))
