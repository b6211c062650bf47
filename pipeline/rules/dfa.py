"""Direct feedback alignment: the output error goes straight to every block (Nøkland 2016)."""

from math import prod
from typing import Any

import torch
from torch import Tensor

from pipeline.autocast import at_least_float32
from pipeline.block import Block
from pipeline.rule import BlockSpec, Learned, LearningRule, Topology
from pipeline.rules._descent import descend

__all__ = ["DirectFeedbackAlignment", "build"]


class DirectFeedbackAlignment(LearningRule):
    """``gamma_l = e B_l`` at the block's output, after nonlinearity and pooling; exact gradients within the block.

    e is the derivative of the output loss by the network's output, B_l (outputs x features of the block) is drawn
    uniform in +-1/sqrt(features) and never trained. Hidden blocks have no loss of their own.

    Source: Nøkland, "Direct Feedback Alignment Provides Learning in Deep Neural Networks" (2016). Deviation: e is that
    of the batch's *mean* loss, where his code sums.
    """

    topology = Topology.BROADCAST
    matrix: Tensor

    def __init__(self, block: Block, spec: BlockSpec) -> None:
        super().__init__(block, spec)
        if not spec.is_last:
            size = prod(spec.out_shape)
            bound = 1.0 / size**0.5
            self.register_buffer("matrix", torch.empty(spec.task.num_outputs, size).uniform_(-bound, bound))

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Any]:
        """See :class:`LearningRule`. The context is ``(out, y)``, out with its graph."""
        out = self.block(x)
        return out.detach(), (out, y)

    def learn(self, context: Any, feedback: tuple[Tensor, ...], *, weight: float = 1.0) -> Learned:
        """See :class:`LearningRule`. ``feedback``, and the last block's ``upstream``, is e, (batch, num_outputs)."""
        out, y = context
        if not self.spec.is_last:
            gamma = (feedback[0] @ self.matrix).view(out.shape)
            return Learned(descend(self.spec, out, y, (gamma,), weight))
        error = self.spec.task.error(at_least_float32(out.detach()), y) * weight
        return Learned(descend(self.spec, out, y, (), weight), (error,))

    def decode(self, context: Any) -> Tensor | None:
        """The last block's output; None below it."""
        return context[0].detach() if self.spec.is_last else None


def build(block: Block, spec: BlockSpec) -> LearningRule:
    """The rule of one block.

    Args:
        block: what is trained.
        spec: its place in the network.
    """
    return DirectFeedbackAlignment(block, spec)
