"""The contract between a learning rule and the runtime.

A rule wraps one block. It runs the block forward, and later fills the gradients of that block's parameters and its
own. It never sees another block. Its topology decides everything else: which edges between stages are opened, which
tensors are held, and when it may learn.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, ClassVar

from torch import Tensor, nn

from pipeline.data.task import Labels, Task
from pipeline.network.block import Block, Blueprint

__all__ = ["ANY_LABELS", "BatchNote", "BlockSpec", "Learned", "LearningRule", "Topology"]

ANY_LABELS = frozenset(Labels)
"""For :attr:`LearningRule.learns_from`."""


class Topology(Enum):
    """The feedback that a block needs to learn from a micro-batch it has run forward."""

    LOCAL = "local"
    """None: its own activations, and the labels that travel with the batch."""
    BROADCAST = "broadcast"
    """The last block's ``Learned.upstream``, the same for every block, straight from the last stage."""
    NEIGHBOUR = "neighbour"
    """The ``Learned.upstream`` of the block above, for the same micro-batch."""
    SETTLE = "settle"
    """Several exchanges with both neighbours per micro-batch."""


@dataclass(frozen=True, slots=True)
class BlockSpec:
    """Place and shapes of a rule's block. Shapes are without the batch dimension."""

    index: int
    num_blocks: int
    in_shape: tuple[int, ...]
    body_shape: tuple[int, ...]
    """Shape of ``block.body(x)``, which local losses read."""
    out_shape: tuple[int, ...]
    """Shape of the activation that is sent to the next block."""
    task: Task
    num_train: int = 0
    """Samples of the training set, for a rule that keeps something of each."""
    above: Blueprint | None = None
    """Of the next block, for a rule that has layers of its kind; None for the last one, and where it holds weights."""

    @property
    def is_first(self) -> bool:
        """True of the first block, which sends no feedback."""
        return self.index == 0

    @property
    def is_last(self) -> bool:
        """True of the last block: its output is the network's, and its error is exact."""
        return self.index == self.num_blocks - 1


@dataclass(slots=True)
class Learned:
    """Result of learning from one micro-batch."""

    loss: Tensor | None
    """This block's own loss, a detached scalar, still on its device: reading it is a synchronisation. None from a
    block that has no loss of its own."""
    upstream: tuple[Tensor, ...] = ()
    """Feedback for the block below (NEIGHBOUR), or from the last block for all others (BROADCAST)."""
    credited: Tensor | None = None
    """Number of samples of this micro-batch that the block was updated for, 0-d; None for all of them. The mean
    number of blocks updated per sample is the depth of credit assignment."""


@dataclass(frozen=True, slots=True)
class BatchNote:
    """What a rule that asks for it is told of a training micro-batch."""

    samples: Tensor
    """Their places in the training set, (batch,) int64, on the rule's device."""
    seed: int
    """The same for all blocks and all parts of a batch, another one for each batch: for what they must draw alike."""


class LearningRule(nn.Module, ABC):
    """Wraps one block; ``parameters()``, ``state_dict()`` and ``to()`` cover the block and the rule's own matrices.

    In evaluation mode :meth:`forward` is called under ``no_grad`` and :meth:`learn` is not called.

    Args:
        block: the block that the rule trains.
        spec: place and shapes of that block.
    """

    topology: ClassVar[Topology]
    splits_batches: bool = True
    """True where the gradients of a batch's parts, each times its share of the samples, add up to that of the batch,
    as they do for a loss that is a mean over samples."""
    max_in_flight: ClassVar[int | None] = None
    """Maximum batches in flight; None for no bound, where the gradient is still that of the forward pass, if late.

    SETTLE: None means 1, since an exchange uses the weights of its own time, and those of the forward pass are gone;
    a rule that keeps the weights it needs may allow more.
    """
    rounds_feedback: ClassVar[bool] = False
    """NEIGHBOUR: True where feedback may travel in ``transport.wire`` like an activation; its numbers for each feature
    are then floating-point ones. False where it has to be exact: a gradient, or a target whose distance from the
    activation is what is learned from."""
    feedback_is_gradient: ClassVar[bool] = False
    """NEIGHBOUR: True where feedback, and what is sent down, is the derivative of what is minimised above by the output
    of the block that it is for, or an estimate of it, already weighted: such rules go together."""
    passes_frozen: ClassVar[bool] = False
    """NEIGHBOUR: True where a frozen block, in evaluation mode, still sends the derivative by its input down."""
    reaches_input: ClassVar[bool] = False
    """LOCAL and BROADCAST: True where :meth:`learn`, once its derivatives are left to autograd, differentiates down to
    the block's input as well, if that requires it: the blocks below may then learn by backpropagation."""
    settles_in_evaluation: ClassVar[bool] = True
    """SETTLE: True where test batches are settled too; False where the exchange serves learning alone."""

    learns_from: ClassVar[frozenset[Labels]] = frozenset({Labels.CLASS})
    """Labels that the rule can learn from. One that asks only its task for losses, errors and targets, and whose
    decoder reads position by position, takes :data:`ANY_LABELS`; one that compares samples or indexes by their class
    does not."""
    scores_are_outputs: bool = True
    """True where :meth:`decode`'s scores are scored by the task's own loss, so that its metrics hold for them."""

    publishes_every: int = 0
    """LOCAL: steps between two versions of what the last block publishes, the same in every block; 0: nothing is. See
    :mod:`pipeline.engine.publishing`."""
    published: Tensor
    """Then a buffer of one shape in all blocks: the version that the block uses, in the last one the newest."""

    def __init__(self, block: Block, spec: BlockSpec) -> None:
        if spec.task.labels not in self.learns_from:
            known = " or ".join(sorted(kind.value for kind in self.learns_from))
            raise ValueError(
                f"it learns from {known} only (given: labels that are {spec.task.labels.value}, of shape "
                f"{spec.task.label_shape}). Choose a rule for them, e.g. linear_decoder: docs/tasks.md lists all."
            )
        super().__init__()
        self.block = block
        self.spec = spec
        self.keeps_graph = False
        """True where a block that learns at once is differentiated by its weights again when feedback has come."""
        self.most_feedback = 1
        """NEIGHBOUR: tensors of the shape of the block's output that feedback for it has, at most."""
        self.draws = True
        """True where ``forward`` or ``learn`` may draw random numbers: both are then seeded for every micro-batch."""
        self.notes_batches = False
        """True where ``forward`` or ``learn`` change a buffer: its value depends on all micro-batches before."""
        self.takes_unit_interval = False
        """True where the network's input is taken for values in [0, 1]."""
        self.asks_for_note = False
        """True where ``forward`` reads :attr:`batch_note`."""
        self.batch_note: BatchNote | None = None
        """About the micro-batch that ``forward`` is about to be called with, if it is a run's and trains; ``forward``
        takes it away. None in evaluation and in measurements."""

    @property
    def learns_at_once(self) -> bool:
        """True where :meth:`learn` is called with no feedback as soon as the activation has been sent.

        So it is for LOCAL rules, and for the last block unless it settles first. A rule with synthetic gradients is
        called a second time, with the feedback, when that arrives.
        """
        return self.topology is Topology.LOCAL or (self.spec.is_last and self.topology is not Topology.SETTLE)

    @property
    def learns_late(self) -> bool:
        """A block that waits for feedback is differentiated, when that comes, by its weights of the forward pass."""
        return not self.learns_at_once or self.keeps_graph

    def parameter_groups(self) -> list[tuple[list[nn.Parameter], float]]:
        """Parameters for the optimizer, each list with its factor on the learning rate.

        A rule that trains a second model beside its block (an inverse, a predictor of gradients) sets that model's
        rate here; a factor on the gradient would do nothing under Adam or Rprop.
        """
        return [([p for p in self.parameters() if p.requires_grad], 1.0)]

    def unsuited(self, optimizer: str, options: Mapping[str, Any]) -> str:
        """What the rule would lose under an optimizer of these options, to be said before a run; else empty.

        It says what was given and expected, and the next move.
        """
        return ""

    def begin_epoch(self, epoch: int) -> None:
        """Set what changes from epoch to epoch, a slope or a noise. Args: epoch, about to begin, counted from 0."""

    def leave_to_autograd(self) -> None:
        """Give up derivatives by hand, where the rule has them and autograd can take over.

        Called before the first step under autocast, of whose roundings they know nothing, and with
        ``run.closed_form = false``.
        """

    @abstractmethod
    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Any]:
        """Run the block.

        Args:
            x: the block's input, (batch, *in_shape), without a graph.
            y: labels, (batch, *task.label_shape), of the task's dtype: (batch,), int64, where a sample has one class.

        Returns:
            The activation for the next block, (batch, *out_shape), detached; and a context for :meth:`learn` and
            :meth:`decode`. The context is all that is held until feedback arrives.
        """

    def propagate(self, x: Tensor) -> Tensor:
        """The activation of :meth:`forward` in evaluation, the same bits, with a graph down to ``x`` and the block's
        parameters. A rule whose forward pass is not just that of its block overrides it.

        Args:
            x: the block's input, (batch, *in_shape).
        """
        out: Tensor = self.block(x)
        return out

    @abstractmethod
    def learn(self, context: Any, feedback: tuple[Tensor, ...], *, weight: float = 1.0) -> Learned:
        """Add this micro-batch's gradient to ``.grad`` of every parameter that the rule trains.

        Args:
            context: from :meth:`forward`.
            feedback: tensors promised by the topology; empty where it promises none.
            weight: share of the optimizer step's samples in this micro-batch, in (0, 1]. The gradient is that of
                ``weight * loss``. Feedback that is a gradient carries its sender's weight already; a target or a code
                carries none, and each block weights its own loss.
        """

    @property
    def num_rounds(self) -> int:
        """SETTLE: number of rounds of exchange per micro-batch, the same for every block."""
        return 0

    def settle(
        self, context: Any, index: int, below: tuple[Tensor, ...], above: tuple[Tensor, ...]
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """SETTLE: run one round of exchange; changes ``context`` in place.

        Called in training and, under ``no_grad``, in evaluation if the rule settles there. :meth:`learn` follows the
        last round, with no feedback.

        Args:
            context: from :meth:`forward`.
            index: index of the round, from 0.
            below: tensors that the block below sent up in the round before; empty in the first and for block 0.
            above: tensors that the block above sent down in the round before; empty in the first and for the last.

        Returns:
            The tensors to send up, and those to send down.

        Raises:
            TypeError: the rule does not define it.
        """
        raise TypeError(
            f"{type(self).__name__} declares the topology {self.topology.value} and was asked to settle. "
            "Define settle(), or declare another topology."
        )

    def to_publish(self) -> Tensor:
        """What the last block would publish now, not copied; of the shape of :attr:`published`.

        Raises:
            TypeError: the rule does not define it.
        """
        raise TypeError(
            f"{type(self).__name__} publishes every {self.publishes_every} steps and was asked what. Define "
            "to_publish(), or set publishes_every to 0."
        )

    @abstractmethod
    def decode(self, context: Any) -> Tensor | None:
        """This block's own scores, (batch, *task.out_shape), or None where it has no decoder."""

    def num_correct(self, scores: Tensor, y: Tensor) -> Tensor:
        """Number of right answers among :meth:`decode`'s scores, 0-d int64."""
        return self.spec.task.num_correct(scores, y)

    def averaged(self, scores: Tensor) -> Tensor:
        """Average the scores of several passes through a network that draws samples.

        Args:
            scores: from :meth:`decode`, (passes, batch, *task.out_shape).

        Returns:
            Scores, (batch, *task.out_shape).
        """
        return self.spec.task.averaged(scores)

    def decoded_loss(self, scores: Tensor, y: Tensor) -> Tensor:
        """Loss of :meth:`decode`'s scores as reported in evaluation: a mean over the batch and its positions, 0-d."""
        return self.spec.task.loss(scores, y)
