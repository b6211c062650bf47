"""The contract between a learning rule and the runtime.

A rule wraps one block. It runs the block forward, and later fills the gradients of that block's parameters and its
own. It never sees another block. What it declares decides everything else: which wires are opened, what is held
back, and when it may learn.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import Enum
from typing import Any, ClassVar

from torch import Tensor, nn

from pipeline.data.task import Task
from pipeline.network.block import Block

__all__ = ["BlockSpec", "Learned", "LearningRule", "Topology"]


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
    credited: Tensor | None = None
    """Samples of this micro-batch that the block was updated for, 0-d, where a rule may stop before it has reached
    all of them: the mean number of blocks updated per sample is the depth of credit assignment."""


class LearningRule(nn.Module, ABC):
    """Wraps one block; ``parameters()``, ``state_dict()`` and ``to()`` cover the block and the rule's own matrices.

    In evaluation mode :meth:`forward` is called under ``no_grad`` and nothing is learned.
    """

    topology: ClassVar[Topology]
    splits_batches: ClassVar[bool] = True
    """Whether the gradients of a batch's parts, each times its share of the samples, add up to that of the whole:
    True of a loss that is a mean over samples."""
    max_in_flight: ClassVar[int | None] = None
    """The most batches that may be in flight under this rule; None where late feedback is still right, if late.

    SETTLE: None is 1, since an exchange takes place with the weights of its own time, and those of the forward pass
    are gone; a rule that keeps what it needs of them may say more.
    """
    settles_in_evaluation: ClassVar[bool] = True
    """SETTLE: whether a test batch is settled too; not so where the exchange is about learning alone."""

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

    def begin_epoch(self, epoch: int) -> None:
        """Called before every epoch, counted from 0: for what changes from epoch to epoch, a slope or a noise."""

    def leave_to_autograd(self) -> None:
        """Give up derivatives by hand, where the rule has them and autograd can take over.

        Called before the first step under autocast, of whose roundings they know nothing, and with
        ``run.closed_form = false``.
        """

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
        """SETTLE: one round, in training and, under ``no_grad``, in evaluation if the rule settles there; changes
        ``context`` in place.

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

    def averaged(self, scores: Tensor) -> Tensor:
        """One answer from several passes through a network that draws samples.

        Args:
            scores: :meth:`decode`'s, (passes, batch, num_outputs).
        """
        return self.spec.task.averaged(scores)

    def decoded_loss(self, scores: Tensor, y: Tensor) -> Tensor:
        """The loss of :meth:`decode`'s scores, a mean over the batch, as reported in evaluation."""
        return self.spec.task.loss(scores, y)
