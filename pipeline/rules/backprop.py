"""Backpropagation: the block above sends the loss's derivative by this block's output (Rumelhart 1986)."""

from typing import Any

from torch import Tensor

from pipeline.learning.descent import descend
from pipeline.learning.rule import ANY_LABELS, BlockSpec, Learned, LearningRule, Topology
from pipeline.network.block import Block

__all__ = ["Backprop", "build"]


class Backprop(LearningRule):
    """Backpropagation: the chain rule block by block, ``gamma_(l-1) = d(gamma_l . out_l)/dx``.

    Baseline and oracle in one: under a flush (gpipe, 1f1b) the gradients are those of the whole network. Hidden
    blocks have no loss of their own.

    Source: Rumelhart, Hinton and Williams, "Learning representations by back-propagating errors" (1986).
    """

    topology = Topology.NEIGHBOUR
    feedback_is_gradient = True
    passes_frozen = True
    learns_from = ANY_LABELS

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Any]:
        """See :class:`LearningRule`. The context is ``(x, out, y)``, out with its graph."""
        if self.training and not self.spec.is_first:
            x = x.detach().requires_grad_()
        out = self.block(x)
        return out.detach(), (x, out, y)

    def learn(self, context: Any, feedback: tuple[Tensor, ...], *, weight: float = 1.0) -> Learned:
        """See :class:`LearningRule`. ``feedback`` and ``upstream`` are one tensor of the activation's shape."""
        x, out, y = context
        loss = descend(self.spec, out, y, feedback, weight)
        return Learned(loss, () if self.spec.is_first else (x.grad,))

    def decode(self, context: Any) -> Tensor | None:
        """The last block's output; None below it."""
        return context[1].detach() if self.spec.is_last else None


def build(block: Block, spec: BlockSpec) -> LearningRule:
    """Make the rule of one block."""
    return Backprop(block, spec)
