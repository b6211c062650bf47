"""Rules that need nothing from outside their block: a loss of its own, differentiated by autograd or by hand."""

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.learning.dense import Dense
from pipeline.learning.rule import BlockSpec, Learned, LearningRule, Topology
from pipeline.network.block import Block

__all__ = ["LocalRule", "Output"]


class LocalRule(LearningRule):
    """A rule that minimises a loss on its own body's output and needs nothing from outside.

    Subclasses give :meth:`loss`. A stage may sum the losses of several such blocks and call ``backward`` once: their
    graphs are disjoint.

    Args:
        dense: the block's body in closed form, where the rule is content with the ``forward`` and ``learn`` below
            and draws no random numbers itself; None leaves the derivatives to autograd. The numbers are the same.
    """

    topology = Topology.LOCAL

    def __init__(self, block: Block, spec: BlockSpec, *, dense: Dense | None = None) -> None:
        super().__init__(block, spec)
        self.dense = dense
        self._has_outlet = not isinstance(block.outlet, nn.Identity)
        self.draws = dense is None or self._has_outlet

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Any]:
        """See :class:`LearningRule`. The context is ``(h, y)``, h being the body's output with its graph, or in
        closed form ``(h, y, x)`` without one."""
        if self.dense is not None:
            h = self.dense.forward(x)
            return self.block.outlet(h) if self._has_outlet else h, (h, y, x)
        h = self.block.body(x)
        out = self.block.outlet(h.detach())
        return out, (h, y)

    def leave_to_autograd(self) -> None:
        """See :class:`LearningRule`."""
        self.dense = None
        self.draws = True

    @abstractmethod
    def loss(self, context: Any) -> Tensor:
        """This block's loss, a scalar with a graph, a mean over the batch."""

    def descend(self, h: Tensor, y: Tensor, weight: float) -> tuple[Tensor, Tensor]:
        """Closed form: adds the gradients of the rule's own parameters.

        By autograd, unless a subclass knows its derivatives.

        Args:
            h: the body's output without a graph, (batch, features).
            y: labels, (batch,).
            weight: share of the optimizer step's samples.

        Returns:
            The loss, detached, and the derivative of ``weight * loss`` by ``h``.
        """
        leaf = h.detach().requires_grad_()
        loss = self.loss((leaf, y))
        torch.autograd.backward(loss if weight == 1.0 else loss * weight)
        assert leaf.grad is not None
        return loss.detach(), leaf.grad

    def learn(self, context: Any, feedback: tuple[Tensor, ...], *, weight: float = 1.0) -> Learned:
        """See :class:`LearningRule`."""
        if self.dense is not None:
            h, y, x = context
            loss, dh = self.descend(h, y, weight)
            self.dense.learn(x, h, dh)
            return Learned(loss)
        loss = self.loss(context)
        torch.autograd.backward(loss if weight == 1.0 else loss * weight)
        return Learned(loss.detach())


class Output(LocalRule):
    """The last block of a network whose blocks need nothing from above: ordinary descent on the output loss.
    """

    def __init__(self, block: Block, spec: BlockSpec) -> None:
        plain = isinstance(block.outlet, nn.Identity)
        super().__init__(block, spec, dense=Dense.of(block, spec.in_shape) if plain else None)

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Any]:
        """See :class:`LearningRule`. The context is ``(out, y)``, or in closed form ``(out, y, x)``."""
        if self.dense is not None:
            return super().forward(x, y)
        out = self.block(x)
        return out.detach(), (out, y)

    def loss(self, context: Any) -> Tensor:
        """The task's loss."""
        out, y = context[:2]
        return self.spec.task.loss(out, y)

    def descend(self, h: Tensor, y: Tensor, weight: float) -> tuple[Tensor, Tensor]:
        """See :class:`LocalRule`."""
        return self.spec.task.loss_and_error(h, y, weight)

    def decode(self, context: Any) -> Tensor:
        """The network's output."""
        out: Tensor = context[0]
        return out.detach()
