"""Indirect feedback alignment: the output error goes to the first block and from there upwards (Nøkland 2016)."""

from math import prod
from typing import Any

import torch
from torch import Tensor

from pipeline.learning.plain_dense import PlainDense
from pipeline.learning.rule import BlockSpec, Learned, LearningRule, Topology
from pipeline.learning.saved_weights import Kept
from pipeline.network.block import Block
from pipeline.numerics.autocast import at_least_float32

__all__ = ["IndirectFeedbackAlignment", "build"]

Tensors = tuple[Tensor, ...]


class IndirectFeedbackAlignment(LearningRule):
    """Indirect feedback alignment: ``delta_1 = (e B) * phi'(a_1)``, ``delta_l = (delta_(l-1) W_l^T) * phi'(a_l)``.

    ``G_W = delta_l^T z_(l-1)``. e is the derivative of the output loss by the network's output, B (outputs x features
    of the first block) is uniform in +-1/sqrt(features) and never trained, and W are the weights of the forward pass.
    The last block learns by e itself.

    The last block has no edge to the first: e goes down one block in each round, and with L blocks the error reaches
    the last hidden one after ``2 (L - 1)`` rounds. A hard part of a unit is bypassed.

    Source: Nøkland, "Direct Feedback Alignment Provides Learning in Deep Neural Networks" (2016). Deviation: e is that
    of the batch's *mean* loss.

    Args:
        block: one ``nn.Linear`` and its unit in ``nn.Sequential``, no normalisation, no dropout.

    Raises:
        ValueError: ``block`` is not of that form.
    """

    topology = Topology.SETTLE
    settles_in_evaluation = False
    max_in_flight = 16  # the weights of the forward pass are kept
    matrix: Tensor

    def __init__(self, block: Block, spec: BlockSpec) -> None:
        super().__init__(block, spec)
        self.dense = PlainDense(block, spec, "ifa")
        self.draws = self.dense.draws
        if spec.is_first and not spec.is_last:
            size = prod(spec.out_shape)
            bound = size**-0.5
            self.register_buffer("matrix", torch.empty(spec.task.num_outputs, size).uniform_(-bound, bound))

    @property
    def num_rounds(self) -> int:
        """See :class:`LearningRule`: as many rounds down as up."""
        return 2 * (self.spec.num_blocks - 1)

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Any]:
        """See :class:`LearningRule`. The context is ``[x, a, z, y, kept, delta]``; kept holds the present weight, and
        delta is None until it arrives."""
        inside = self.training and not (self.spec.is_first or self.spec.is_last)
        kept = Kept(self.dense.weight) if inside else None
        a, z = self.dense.forward(x)
        return self.dense.sent(z), [x, a, z, y, kept, None]

    @torch.no_grad()
    def settle(self, context: Any, index: int, below: Tensors, above: Tensors) -> tuple[Tensors, Tensors]:
        """See :class:`LearningRule`. Up goes delta, (batch, features), down goes e, (batch, num_outputs), each in the
        round after it arrived; otherwise nothing."""
        _, a, z, y, kept, _ = context
        if self.spec.is_last:
            return (), (self.spec.task.error(at_least_float32(z), y),) if index == 0 else ()
        if self.spec.is_first:
            arrived = above[0] @ self.matrix if above else None
        else:
            arrived = below[0] @ kept.tensors()[0].t() if below else None
        if arrived is None:
            return (), above
        context[-1] = self.dense.f.derive(arrived, a, z)
        return (context[-1],), ()

    @torch.no_grad()
    def learn(self, context: Any, feedback: Tensors, *, weight: float = 1.0) -> Learned:
        """See :class:`LearningRule`. Hidden blocks have no loss of their own."""
        x, a, z, y, _, delta = context
        if not self.spec.is_last:
            self.dense.descend(x, delta * weight)
            return Learned(None)
        loss, error = self.spec.task.loss_and_error(at_least_float32(z), y, weight)
        self.dense.descend(x, self.dense.f.derive(error, a, z))
        return Learned(loss)

    def decode(self, context: Any) -> Tensor | None:
        """The last block's output; None below it."""
        out: Tensor = context[2]
        return out if self.spec.is_last else None


def build(block: Block, spec: BlockSpec) -> LearningRule:
    """Make the rule of one block; see :class:`IndirectFeedbackAlignment`."""
    return IndirectFeedbackAlignment(block, spec)
