"""Feedback alignment: backpropagation through fixed random matrices in place of the weights (Lillicrap 2014)."""

from typing import Any

import torch
from torch import Tensor, nn

from pipeline.block import Block
from pipeline.rule import BlockSpec, Learned, LearningRule, Topology
from pipeline.rules._affine import back_through, run, split_at_affine
from pipeline.rules._descent import descend

__all__ = ["FeedbackAlignment", "build"]


class FeedbackAlignment(LearningRule):
    """``delta_l = gamma_l * phi'(a_l)``, ``G_W = delta_l^T z_(l-1)``, ``gamma_(l-1) = delta_l B_l``.

    B has the shape of the block's weight, is drawn uniform in +-1/sqrt(fan-in) and never trained. Everything else,
    normalisation among it, keeps its exact gradient, so with B equal to the weight this is backpropagation. The
    first block sends nothing and has no B.

    The graph is cut in front of the affine layer: its weight is not needed to learn later, and no time goes into
    the exact input gradient.

    Source: Lillicrap, Cownden, Tweed and Akerman, "Random synaptic feedback weights support error backpropagation for
    deep learning" (2016).
    """

    topology = Topology.NEIGHBOUR
    matrix: Tensor

    def __init__(self, block: Block, spec: BlockSpec) -> None:
        super().__init__(block, spec)
        self.split = split_at_affine(block, "fa")
        trains_before = any(True for m in self.split.before for _ in m.parameters())
        self.uses_matrix = trains_before or not spec.is_first
        if self.uses_matrix:
            weight = self.split.affine.weight
            bound = 1.0 / weight[0].numel() ** 0.5
            self.register_buffer("matrix", torch.empty_like(weight, requires_grad=False).uniform_(-bound, bound))

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Any]:
        """See :class:`LearningRule`. The context is ``(x, u, deltas, out, y)``, u being the affine layer's input."""
        if self.training and not self.spec.is_first and self.split.before:
            x = x.detach().requires_grad_()
        u = run(self.split.before, x)
        a = self.split.affine(u.detach())
        deltas: list[Tensor] = []
        if a.requires_grad and self.uses_matrix:
            # Not retain_grad: a layer that works in place would move that to its own result.
            a.register_hook(deltas.append)
        out = run(self.split.after, a)
        return out.detach(), (x, u, deltas, out, y)

    def learn(self, context: Any, feedback: tuple[Tensor, ...], *, weight: float = 1.0) -> Learned:
        """See :class:`LearningRule`. ``feedback`` and ``upstream`` are one tensor of the activation's shape."""
        x, u, deltas, out, y = context
        loss = descend(self.spec, out, y, feedback, weight)
        if not self.uses_matrix:
            return Learned(loss)
        error = back_through(self.split.affine, self.matrix, deltas.pop(), u.shape)
        if u.requires_grad:
            torch.autograd.backward(u, error)
            error = x.grad
        return Learned(loss, () if self.spec.is_first else (error,))

    def decode(self, context: Any) -> Tensor | None:
        """The last block's output; None below it."""
        return context[3].detach() if self.spec.is_last else None


def build(block: Block, spec: BlockSpec) -> LearningRule:
    """The rule of one block.

    Args:
        block: what is trained; it has exactly one ``nn.Linear`` or ``nn.Conv2d``, directly in ``nn.Sequential``.
        spec: its place in the network.

    Raises:
        ValueError: ``block`` is not of that form.
    """
    return FeedbackAlignment(block, spec)
