"""Interlock: a block descends on the read-out loss of the block N - 1 above it (Gomez et al. 2020)."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pipeline.learning.aux_head import AuxHead, ReadOut, read_out_of
from pipeline.learning.descent import descend_on
from pipeline.learning.heads import PooledHead
from pipeline.learning.rule import ANY_LABELS, BlockSpec, Learned, LearningRule, Topology
from pipeline.network.block import Block
from pipeline.ranges import Count
from pipeline.rules import aux

__all__ = ["Interlock", "build"]


@dataclass(slots=True)
class _Context:
    """What is held of a micro-batch."""

    x: Tensor
    out: Tensor
    """The block's output with its graph."""
    read: Tensor
    """What the head reads, with its graph."""
    y: Tensor
    leaf: Tensor | None = None
    """``read`` without that graph, where the head's own graph begins."""
    loss: Tensor | None = None
    """Of the head; with its graph until the head has learned."""


class Interlock(LearningRule):
    """Truncated backpropagation over ``overlap`` = N blocks: block k descends on L_j, ``j = min(k + N - 1, K - 1)``.

    L_j is the loss of block j's read-out, for the last block that of the network's output. Every read-out descends on
    its own loss, which does not reach its block unless N is 1. Down go the derivatives by the block's input of those
    losses that a block below descends on: at N = 2 ``dL_k/dz`` alone, which needs nothing from above, so it is sent at
    once, and no block waits longer than for the one above it. At N = K it is backpropagation, the read-outs beside it.

    Source: Gomez et al., "Interlocking Backpropagation: Improving depthwise model-parallelism" (2020).

    Args:
        block: any.
        spec: its place.
        head: see :func:`pipeline.learning.aux_head.read_out_of`; None for the last block.
        overlap: N, from 2 on.
    """

    topology = Topology.NEIGHBOUR
    learns_from = ANY_LABELS

    def __init__(self, block: Block, spec: BlockSpec, head: PooledHead | AuxHead | None, overlap: int) -> None:
        super().__init__(block, spec)
        self.head = head
        self.overlap = min(overlap, max(spec.num_blocks, 2))
        self.keeps_graph = self.learns_at_once and not spec.is_last
        self.most_feedback = self.overlap - 1
        self._sent, self._received = (self._losses_sent_by(k) for k in (spec.index, spec.index + 1))

    def _losses_sent_by(self, block: int) -> range:
        """The blocks whose losses some block below ``block`` descends on, of those that it can tell of."""
        last = self.spec.num_blocks - 1
        return range(max(block, self.overlap - 1), min(block + self.overlap - 2, last) + 1)

    @property
    def learns_at_once(self) -> bool:
        """See :class:`LearningRule`; hidden blocks are called again with the message."""
        return self.spec.is_last or self.overlap == 2

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Any]:
        """See :class:`LearningRule`."""
        if self.training and not self.spec.is_first:
            x = x.detach().requires_grad_()
        h = self.block.body(x)
        out = self.block.outlet(h)
        context = _Context(x, out, h if isinstance(self.head, PooledHead) else out, y)
        if self.training and not self.learns_at_once:  # by the head's weights of this time, too
            self._run_head(context)
        return out.detach(), context

    def learn(self, context: Any, feedback: tuple[Tensor, ...], *, weight: float = 1.0) -> Learned:
        """See :class:`LearningRule`. Tensors of feedback are like ``out``, one for each loss, that of the lowest block
        first."""
        if self.spec.is_last:
            loss = descend_on(self.spec.task.loss(context.out, context.y), weight)
            return Learned(loss, () if self.spec.is_first else (context.x.grad,))
        sent: list[Tensor] = []
        if not self.learns_at_once or not feedback:
            sent = self._learn_head(context, weight)
        if not feedback:
            return Learned(None, tuple(sent))
        return Learned(context.loss, (*sent, *self._learn_block(context, feedback)))

    def decode(self, context: Any) -> Tensor:
        """The read-out's scores, in the last block the network's output."""
        if self.head is None:
            out: Tensor = context.out
            return out.detach()
        with torch.no_grad():
            scores: Tensor = self.head(context.read)
        return scores

    def _run_head(self, context: _Context) -> None:
        """Runs the read-out on what the block says, detached from the block's graph."""
        assert self.head is not None, "the last block has none"
        context.leaf = context.read.detach().requires_grad_()
        context.loss = self.spec.task.loss(self.head(context.leaf), context.y)

    def _learn_head(self, context: _Context, weight: float) -> list[Tensor]:
        """The read-out descends on its own loss; returns that loss's derivative by the block's input, if it is sent."""
        if context.leaf is None:
            self._run_head(context)
        leaf = context.leaf
        assert context.loss is not None and leaf is not None
        context.loss = descend_on(context.loss, weight)
        context.leaf = None  # with its gradient, of the output's size, which nobody asks for again
        if self.spec.is_first or self.spec.index not in self._sent:
            return []
        (found,) = torch.autograd.grad(context.read, context.x, leaf.grad, retain_graph=True)
        return [found]

    def _learn_block(self, context: _Context, feedback: tuple[Tensor, ...]) -> list[Tensor]:
        """The block descends on the topmost loss; returns the derivatives of the others, and of it, that are sent."""
        *others, own = feedback
        sent = [
            torch.autograd.grad(context.out, context.x, gradient, retain_graph=True)[0]
            for loss, gradient in zip(self._received, others, strict=False) if loss in self._sent and self.spec.index
        ]  # fmt: skip
        if not context.out.requires_grad:  # a first block without parameters
            return sent
        if self.spec.is_first or self._received[-1] not in self._sent:
            if trained := [p for p in self.block.parameters() if p.requires_grad]:
                torch.autograd.backward(context.out, own, inputs=trained)
            return sent
        torch.autograd.backward(context.out, own)
        assert context.x.grad is not None
        return [*sent, context.x.grad]


def build(block: Block, spec: BlockSpec, *, overlap: Count = 2, read_out: ReadOut = ReadOut()) -> LearningRule:
    """Make the rule of one block.

    Args:
        overlap: blocks that a gradient passes at most: 1 is ``aux``, as many as there are backpropagation.
        read_out: see :class:`ReadOut`.
    """
    if overlap == 1:
        return aux.build(block, spec, read_out=read_out)
    return Interlock(block, spec, None if spec.is_last else read_out_of(spec, read_out), overlap)
