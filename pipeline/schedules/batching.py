"""Batching: sizes of batches and micro-batches and their number in flight, known to every stage."""

from dataclasses import dataclass

from pipeline.config import TrainConfig
from pipeline.data.chunking import Chunking
from pipeline.data.class_order import ClassLimit
from pipeline.data.dataset import DataSpec
from pipeline.learning.rule import Topology
from pipeline.schedules.actions import Action, Op, Order, one_f_one_b, stream
from pipeline.schedules.modes import InFlightLimit, Mode

__all__ = ["Batching", "Declared", "Publication", "batching_of"]


@dataclass(frozen=True)
class Publication:
    """What the last block publishes; see :mod:`pipeline.engine.publishing`."""

    every: int
    """Steps between two versions."""
    num_bytes: int
    """Of a version."""


@dataclass(frozen=True)
class Declared:
    """The declaration of a run's rule; see :class:`pipeline.learning.rule.LearningRule`."""

    topology: Topology
    splits_batches: bool
    max_in_flight: int | None
    notes_batches: bool = False
    learns_at_once: bool = False
    """Hidden blocks learn before their feedback has come, and send theirs on then; see
    :attr:`pipeline.learning.rule.LearningRule.learns_at_once`."""
    takes_unit_interval: bool = False
    asks_for_note: bool = False
    unsuited: str = ""
    """See :meth:`pipeline.learning.rule.LearningRule.unsuited`; of the first block that has something to say."""
    most_feedback: int = 1
    """See :attr:`pipeline.learning.rule.LearningRule.most_feedback`."""
    publication: Publication | None = None
    batch_norms: frozenset[int] = frozenset()
    """Blocks that normalise over the batch, or under whose rule something beside them does."""


@dataclass(frozen=True)
class Batching:
    """Sizes of the two splits in batches and samples, known to every stage."""

    num_train: int
    num_test: int
    batch_size: int
    eval_batch_size: int
    microbatches: int
    in_flight: int
    order: Order = stream
    """The order of a stage's actions in an epoch."""
    eval_passes: int = 1
    in_flight_by_stage: bool = False
    """The number in flight depends on the stage, see :meth:`in_flight_at`; ``in_flight`` is then not asked."""
    classes: ClassLimit | None = None
    """Few classes in a training batch; None for any."""
    num_validation: int = 0
    """Samples of the validation set, which is scored after epochs in place of the test set; 0: there is none."""
    chunking: Chunking | None = None
    """How batches follow each other; None where their samples are independent."""

    @property
    def num_steps(self) -> int:
        """Optimizer steps of one epoch; a last smaller batch counts."""
        return -(-self.num_train // self.batch_size)

    @property
    def num_scored(self) -> int:
        """Samples that are scored after an epoch."""
        return self.num_validation or self.num_test

    @property
    def num_eval_batches(self) -> int:
        """Batches of one evaluation after an epoch."""
        return -(-self.num_scored // self.eval_batch_size)

    @property
    def num_test_batches(self) -> int:
        """Batches of the test set."""
        return -(-self.num_test // self.eval_batch_size)

    def in_flight_at(self, stage_index: int, num_stages: int) -> int:
        """Batches that a stage may have sent on and not yet learned from.

        The same on every stage, or as many as there are stages from it to the last (PipeDream). More than an epoch has
        is no more: everything in flight is learned from before an epoch ends.
        """
        most = num_stages - stage_index if self.in_flight_by_stage else self.in_flight
        return min(most, self.num_steps)

    def counts(self) -> list[int]:
        """Micro-batches of each step; a last batch smaller than that has one per sample."""
        last = self.num_train - (self.num_steps - 1) * self.batch_size
        return [self.microbatches] * (self.num_steps - 1) + [min(self.microbatches, last)]

    def samples_dealt(self, num_steps: int, dealt: slice) -> int:
        """Samples of ``dealt`` of the micro-batches of each of an epoch's first steps."""
        counts = enumerate(self.counts()[:num_steps])
        return sum(self.samples_of(Action(Op.FORWARD, s, m)) for s, count in counts for m in range(count)[dealt])

    def rows_of(self, index: int, microbatch: int) -> tuple[slice, int]:
        """Which rows of batch ``index`` of an epoch a micro-batch has, and the rows of the batch."""
        size = min(self.batch_size, self.num_train - index * self.batch_size)
        part, longer = divmod(size, min(self.microbatches, size))
        begin = microbatch * part + min(microbatch, longer)
        return slice(begin, begin + part + int(microbatch < longer)), size

    def samples_of(self, action: Action) -> int:
        """Samples of the micro-batch that an action is about, see :meth:`torch.Tensor.tensor_split`."""
        is_last = action.step == self.num_steps - 1
        size = self.num_train - action.step * self.batch_size if is_last else self.batch_size
        count = min(self.microbatches, size)
        return size // count + int(action.microbatch < size % count)


def batching_of(train: TrainConfig, mode: Mode, data: DataSpec, rule: Declared) -> Batching:
    """The batching of a run; :mod:`pipeline.checks` refuses what its rule or its blocks do not support."""
    batch_size = min(train.batch_size, data.num_train)
    microbatches = min(train.microbatches or mode.microbatches, batch_size)
    is_late = rule.topology is not Topology.LOCAL and mode.in_flight is InFlightLimit.CONFIGURED
    returns = rule.topology in (Topology.NEIGHBOUR, Topology.BROADCAST)
    # With micro-batches, 1F1B gives the numbers of all forward and then all back, and holds less.
    few = ClassLimit(train.classes_per_batch, train.classes_until_epoch) if train.classes_per_batch else None
    least = one_f_one_b if returns and microbatches > 1 else stream
    return Batching(
        data.num_train, data.num_test, batch_size,
        min(train.eval_batch_size or train.batch_size, max(data.num_test, data.num_validation)), microbatches,
        train.in_flight if is_late else 1, mode.order or least, train.eval_passes,
        in_flight_by_stage=mode.in_flight is InFlightLimit.BY_STAGE, classes=few, num_validation=data.num_validation,
        chunking=data.chunking,
    )  # fmt: skip
