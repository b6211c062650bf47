"""Base of local rules: each block minimises a loss of its own, differentiated by autograd or by hand."""

from abc import abstractmethod
from typing import Any, TypeGuard

from torch import Tensor, nn

from pipeline.learning.dense import Dense
from pipeline.learning.descent import descend_on
from pipeline.learning.rule import ANY_LABELS, BlockSpec, Learned, LearningRule, Topology
from pipeline.network.block import Block

__all__ = ["LocalRule", "Output", "has_graph"]


class LocalRule(LearningRule):
    """Base of rules that minimise a loss on their own body's output and need no feedback.

    Subclasses give :meth:`loss`. A stage may sum the losses of several such blocks and call ``backward`` once: their
    graphs are disjoint.

    Args:
        dense: the block's body in closed form, for a rule that draws no random numbers and keeps the ``forward`` and
            ``learn`` of this class; None leaves the derivatives to autograd. The bits are the same.
        trains_outlet: the loss is read behind the outlet.

    Raises:
        ValueError: the outlet of a hidden block has parameters, which the loss would not reach.
    """

    topology = Topology.LOCAL
    reaches_input = True

    def __init__(
        self, block: Block, spec: BlockSpec, *, dense: Dense | None = None, trains_outlet: bool = False
    ) -> None:
        super().__init__(block, spec)
        self.dense = dense
        if not trains_outlet and any(p.requires_grad for p in block.outlet.parameters()):
            raise ValueError(
                f"a local loss does not train an outlet, which lies behind what it reads (given: {block.outlet} in "
                f"block {spec.index}, expected: one without parameters). Move its layers into the body, fix them, or "
                "pass trains_outlet=True where a rule of your own reads behind it."
            )
        self._has_outlet = not isinstance(block.outlet, nn.Identity)
        self.draws = dense is None or self._has_outlet

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Any]:
        """See :class:`LearningRule`. The context is ``(h, y)`` with h the body's output and its graph, or in closed
        form ``(h, y, x)`` without a graph."""
        if self.dense is not None:
            h = self.dense.forward(x)
            return self.block.outlet(h).detach() if self._has_outlet else h, (h, y, x)
        h = self.block.body(x)
        out = h.detach()
        return self.block.outlet(out).detach() if self._has_outlet else out, (h, y)

    def leave_to_autograd(self) -> None:
        """See :class:`LearningRule`."""
        self.dense = None
        self.draws = True

    @abstractmethod
    def loss(self, context: Any) -> Tensor:
        """This block's loss: a scalar with a graph, a mean over the batch. Args: context, from :meth:`forward`."""

    def descend(self, h: Tensor, y: Tensor, weight: float) -> tuple[Tensor, Tensor]:
        """Add the gradients of the rule's own parameters, in closed form.

        This implementation asks autograd; subclasses that know their derivatives override it.

        Args:
            h: the body's output without a graph, (batch, features).
            y: labels, (batch, *task.label_shape).
            weight: share of the optimizer step's samples.

        Returns:
            The loss, detached, 0-d, and the derivative of ``weight * loss`` by ``h``, (batch, features).
        """
        leaf = h.detach().requires_grad_()
        loss = descend_on(self.loss((leaf, y)), weight)
        assert leaf.grad is not None
        return loss, leaf.grad

    def learn(self, context: Any, feedback: tuple[Tensor, ...], *, weight: float = 1.0) -> Learned:
        """See :class:`LearningRule`."""
        if self.dense is not None:
            h, y, x = context
            loss, dh = self.descend(h, y, weight)
            self.dense.learn(x, h, dh)
            return Learned(loss)
        return Learned(descend_on(self.loss(context), weight))


def has_graph(rule: LearningRule) -> TypeGuard[LocalRule]:
    """The rule's loss may be differentiated together with those of other blocks: it has a graph, and the rule
    does nothing else when it learns."""
    return isinstance(rule, LocalRule) and rule.dense is None and type(rule).learn is LocalRule.learn


class Output(LocalRule):
    """Rule of the last block under local rules: gradient descent on the task's loss."""

    learns_from = ANY_LABELS

    def __init__(self, block: Block, spec: BlockSpec) -> None:
        plain = isinstance(block.outlet, nn.Identity)
        super().__init__(block, spec, dense=Dense.of(block, spec.in_shape) if plain else None, trains_outlet=True)

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Any]:
        """See :class:`LearningRule`. The context is ``(out, y)``, or in closed form ``(out, y, x)``."""
        if self.dense is not None:
            return super().forward(x, y)
        out = self.block(x)
        return out.detach(), (out, y)

    def loss(self, context: Any) -> Tensor:
        """The task's loss; see :class:`LocalRule`."""
        out, y = context[:2]
        return self.spec.task.loss(out, y)

    def descend(self, h: Tensor, y: Tensor, weight: float) -> tuple[Tensor, Tensor]:
        """See :class:`LocalRule`."""
        return self.spec.task.loss_and_error(h, y, weight)

    def decode(self, context: Any) -> Tensor:
        """The network's output, (batch, *task.out_shape), detached."""
        out: Tensor = context[0]
        return out.detach()
