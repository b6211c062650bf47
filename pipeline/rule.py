"""The contract between a learning rule and the runtime.

A rule wraps one block. It runs the block forward, and later fills the gradients of that block's parameters and its
own. It never sees another block. What it declares decides everything else: which wires are opened, what is held
back, and when it may learn.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import Enum
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from pipeline.block import Block
from pipeline.dense import Dense
from pipeline.task import Task

__all__ = ["BlockSpec", "Learned", "LearningRule", "LocalRule", "Output", "Topology"]


class Topology(Enum):
    """What a block needs from outside to learn from a micro-batch it has seen."""

    LOCAL = "local"
    """Nothing: its own activations, and the labels that travel with the batch."""
    BROADCAST = "broadcast"
    """What the last block returned, the same for every block, straight from the last stage."""
    NEIGHBOUR = "neighbour"
    """What the block above returned for the same micro-batch."""
    SETTLE = "settle"
    """Several exchanges with both neighbours per micro-batch."""


@dataclass(frozen=True, slots=True)
class BlockSpec:
    """What a rule may know about the place of its block. Shapes are without the batch dimension."""

    index: int
    num_blocks: int
    in_shape: tuple[int, ...]
    body_shape: tuple[int, ...]
    """Shape of ``block.body(x)``, which local losses read."""
    out_shape: tuple[int, ...]
    """Shape of what is sent to the next block."""
    task: Task

    @property
    def is_first(self) -> bool:
        """Nobody below wants anything back."""
        return self.index == 0

    @property
    def is_last(self) -> bool:
        """Its output is the network's, and it has the true error."""
        return self.index == self.num_blocks - 1


@dataclass(slots=True)
class Learned:
    """What learning from one micro-batch returned."""

    loss: Tensor | None
    """This block's own loss, a detached scalar, still on its device: reading it is a synchronisation. None from a
    block that has no loss of its own."""
    upstream: tuple[Tensor, ...] = ()
    """For the block below (NEIGHBOUR), or from the last block for all others (BROADCAST)."""


class LearningRule(nn.Module, ABC):
    """Wraps one block; ``parameters()``, ``state_dict()`` and ``to()`` cover the block and the rule's own matrices.

    In evaluation mode :meth:`forward` is called under ``no_grad`` and nothing is learned.
    """

    topology: ClassVar[Topology]
    splits_batches: ClassVar[bool] = True
    """Whether the gradients of a batch's parts, each times its share of the samples, add up to that of the whole:
    True of a loss that is a mean over samples."""

    def __init__(self, block: Block, spec: BlockSpec) -> None:
        super().__init__()
        self.block = block
        self.spec = spec
        self.draws = True
        """Whether ``forward`` or ``learn`` may draw random numbers: both are seeded for every micro-batch if so."""

    @property
    def learns_at_once(self) -> bool:
        """True where :meth:`learn` is called with no feedback right after the activation is on its way.

        LOCAL rules do, and the last block unless it settles first. A rule with synthetic gradients does *and* is
        called a second time, with the feedback, when that arrives.
        """
        return self.topology is Topology.LOCAL or (self.spec.is_last and self.topology is not Topology.SETTLE)

    def parameter_groups(self) -> list[tuple[list[nn.Parameter], float]]:
        """What the optimizer steps: parameters, and the factor on the learning rate for them.

        A rule that trains a second model beside its block (an inverse, a predictor of gradients) gives it a rate of
        its own here; a factor on the gradient would do nothing under Adam or Rprop.
        """
        return [([p for p in self.parameters() if p.requires_grad], 1.0)]

    @abstractmethod
    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Any]:
        """Runs the block.

        Args:
            x: the block's input, (batch, *in_shape), without a graph.
            y: labels, (batch,), int64.

        Returns:
            The activation for the next block, (batch, *out_shape), detached; and a context that :meth:`learn` and
            :meth:`decode` understand. The context is all that is held until feedback arrives.
        """

    @abstractmethod
    def learn(self, context: Any, feedback: tuple[Tensor, ...], *, weight: float = 1.0) -> Learned:
        """Adds this micro-batch's gradient to ``.grad`` of every parameter it trains.

        Args:
            context: from :meth:`forward`.
            feedback: what the topology promises; empty where nothing comes back.
            weight: share of the optimizer step's samples in this micro-batch. The gradient is that of
                ``weight * loss``. A gradient that comes back carries its sender's weight already; a target or a code
                carries none, and each block weights its own loss.
        """

    @property
    def num_rounds(self) -> int:
        """SETTLE: rounds of exchange per micro-batch, the same for every block."""
        return 0

    def settle(
        self, context: Any, index: int, below: tuple[Tensor, ...], above: tuple[Tensor, ...]
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """SETTLE: one round, in training and, under ``no_grad``, in evaluation; changes ``context`` in place.

        :meth:`learn` follows the last round, with no feedback.

        Args:
            context: from :meth:`forward`.
            index: of the round, from 0.
            below: what the block below emitted upwards in the round before; empty in the first and for block 0.
            above: what the block above emitted downwards in the round before; empty in the first and for the last.

        Returns:
            What goes up and what goes down.
        """
        raise TypeError(
            f"{type(self).__name__} declares the topology {self.topology.value} and was asked to settle. "
            "Define settle(), or declare another topology."
        )

    @abstractmethod
    def decode(self, context: Any) -> Tensor | None:
        """Scores (batch, num_outputs) that this block alone would give, or None where it has no decoder."""

    def num_correct(self, scores: Tensor, y: Tensor) -> Tensor:
        """Number of right answers among :meth:`decode`'s scores, 0-d int64."""
        return self.spec.task.num_correct(scores, y)

    def decoded_loss(self, scores: Tensor, y: Tensor) -> Tensor:
        """The loss of :meth:`decode`'s scores, a mean over the batch, as reported in evaluation."""
        return self.spec.task.loss(scores, y)


class LocalRule(LearningRule):
    """A rule that minimises a loss on its own body's output and needs nothing from outside.

    Subclasses give :meth:`loss`. A stage may sum the losses of several such blocks and call ``backward`` once: their
    graphs are disjoint.

    Args:
        block: what is trained.
        spec: its place in the network.
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
        """Gives up the closed form: it knows nothing of what autocast rounds."""
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

    Args:
        block: what is trained.
        spec: its place in the network.
        closed_form: differentiate a dense block by hand; the numbers are the same.
    """

    def __init__(self, block: Block, spec: BlockSpec, *, closed_form: bool = True) -> None:
        plain = closed_form and isinstance(block.outlet, nn.Identity)
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
