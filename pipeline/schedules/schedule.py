"""Schedules: pure functions from what has happened to the plan of the next epoch.

Decisions depend on epoch reports only, never on timing, so a run is repeated exactly.
"""

from abc import ABC, abstractmethod
from collections.abc import Container, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Self

from pipeline.config import Config
from pipeline.schedules.plan import BlockMode, Plan

__all__ = ["EpochResult", "Parallel", "Schedule", "Sequential", "Value", "Waiting", "converged", "replayed"]

Value = tuple[float, ...]
"""Of weights, on the validation set: the larger one is better. Accuracy and the loss below 0, or the latter alone."""


@dataclass(frozen=True, slots=True)
class EpochResult:
    """A finished epoch, as far as a schedule may know it."""

    plan: Plan
    losses: tuple[float | None, ...]
    """Mean training loss of each block over the epoch; None where it did not train."""
    cache_lost: bool = False
    """The inputs that were to be kept in it could not be: there was no room."""
    values: tuple[Value | None, ...] = ()
    """By block, what its own decoder is worth on the validation set; None where there is none, empty where the set was
    not scored."""


class Schedule(ABC):
    """Decides what each block does in the next epoch."""

    depends_on_results: ClassVar[bool]
    """False: every plan can be published before the run starts, so the pipeline never waits for one."""

    @abstractmethod
    def plan(self, epoch: int, history: Sequence[EpochResult]) -> Plan | None:
        """The plan of ``epoch``, or None when the run is over.

        Args:
            epoch: counted from 0.
            history: the first finished epochs, as many as :meth:`waits_for` says.
        """

    def without(self, frozen: frozenset[int]) -> Self:
        """The same schedule with blocks that never train."""
        return replace(self, frozen=frozen)  # type: ignore[type-var]  # each is a dataclass

    def last(self, end: int, history: Sequence[EpochResult]) -> Plan | None:
        """What still follows where a run is ended after ``end`` epochs, all of which are in ``history``."""
        return None

    def waits_for(self, epoch: int, history: Sequence[EpochResult]) -> int:
        """Finished epochs that the plan of ``epoch`` depends on. Args: history, those that are finished by now."""
        return epoch if self.depends_on_results else 0


def replayed(
    schedule: Schedule, losses: Sequence[Sequence[float | None]], cache_lost: Container[int] = (),
    values: Sequence[tuple[Value | None, ...]] = (),
) -> list[EpochResult]:  # fmt: skip
    """The history of a run whose epochs had these losses: its plans are those that ``schedule`` makes of them.

    ``cache_lost`` are the epochs in which there was no room for what was to be kept, ``values`` those of its blocks.

    Shorter than ``losses`` where the schedule would have ended before.

    Raises:
        ValueError: the schedule would have trained another block in one of these epochs.
    """
    history: list[EpochResult] = []
    for epoch, found in enumerate(losses):
        plan = schedule.plan(epoch, history[: schedule.waits_for(epoch, history)])
        if plan is None or plan.scores_test:
            break
        if schedule.depends_on_results and found[plan.top] is None:
            raise ValueError(f"in epoch {epoch + 1} another block was trained than block {plan.top}")
        history.append(
            EpochResult(plan, tuple(found), epoch in cache_lost, values[epoch] if epoch < len(values) else ())
        )
    return history


@dataclass(frozen=True, slots=True)
class Parallel(Schedule):
    """Every block trains from the first batch on; the baselines use it too."""

    num_blocks: int
    epochs: int
    eval_every: int = 1
    frozen: frozenset[int] = frozenset()

    depends_on_results: ClassVar[bool] = False

    @classmethod
    def of(cls, config: Config, num_blocks: int, cached: bool) -> Self:
        """See :attr:`pipeline.schedules.modes.Mode.schedule`."""
        return cls(num_blocks, config.train.epochs, config.train.eval_every)

    def plan(self, epoch: int, history: Sequence[EpochResult]) -> Plan | None:
        """See :class:`Schedule`."""
        if epoch >= self.epochs:
            return None
        return Plan(
            epoch=epoch,
            modes=tuple(BlockMode.FROZEN if k in self.frozen else BlockMode.TRAIN for k in range(self.num_blocks)),
            lr_epochs=(epoch,) * self.num_blocks,
            evaluate=(epoch + 1) % self.eval_every == 0 or epoch + 1 == self.epochs,
        )


class Waiting:
    """Waits for a better value than the best one so far. Args: patience, scored epochs; 0: without end."""

    def __init__(self, patience: int) -> None:
        self._patience = patience
        self._best: Value | None = None
        self._since = 0

    def is_over(self, value: Value | None) -> bool:
        """After another epoch, of this value: none of the last ``patience`` scored ones was better than the best
        before. Args: value, None of an epoch that was not scored."""
        if value is not None:
            is_better = self._best is None or value > self._best
            self._best, self._since = (value, 0) if is_better else (self._best, self._since + 1)
        return value is not None and 0 < self._patience <= self._since


@dataclass(frozen=True, slots=True)
class Sequential(Schedule):
    """Block k trains until its own loss has converged, then freezes, and block k + 1 starts.

    With ``cached`` the first epoch of a phase runs the block before it forward over its kept inputs and keeps what
    comes out; the epochs after it start at block k. So a phase costs what its block costs, at any depth. Once something
    could not be kept, every epoch starts at the data again: the same numbers, in more time.
    """

    num_blocks: int
    epochs: int
    """The most that one block may train."""
    patience: int = 3
    tolerance: float = 0.01
    cached: bool = True
    eval_every: int = 1
    frozen: frozenset[int] = frozenset()
    """Blocks that have no phase."""
    stalls_after: int = 0
    """Scored epochs in which a block must have become better on the validation set, or it is frozen; 0: any."""

    depends_on_results: ClassVar[bool] = True

    @classmethod
    def of(cls, config: Config, num_blocks: int, cached: bool) -> Self:
        """See :attr:`pipeline.schedules.modes.Mode.schedule`."""
        train, schedule = config.train, config.schedule
        return cls(
            num_blocks, train.epochs, schedule.patience, schedule.tolerance, cached=cached,
            eval_every=train.eval_every, stalls_after=train.patience,
        )  # fmt: skip

    def plan(self, epoch: int, history: Sequence[EpochResult]) -> Plan | None:
        """See :class:`Schedule`."""
        block, trained, counts = self._next(-1), 0, [0] * self.num_blocks
        losses, waiting = list[float](), Waiting(self.stalls_after)
        for result in history:
            loss = result.losses[block]
            assert loss is not None, "the block of a phase trains in every epoch of it"
            losses.append(loss)
            value = result.values[block] if result.values else None
            counts[block] += 1
            trained += 1
            is_over = converged(losses, self.patience, self.tolerance) or waiting.is_over(value)
            if trained >= self.epochs or is_over:
                block, trained, losses, waiting = self._next(block), 0, [], Waiting(self.stalls_after)
        if block == self.num_blocks:
            return None
        cached = self.cached and not any(result.cache_lost for result in history)
        return self._phase(epoch, block, trained, tuple(counts), cached)

    def _next(self, block: int) -> int:
        """The block whose phase follows that of ``block``; their number where none does."""
        return next((k for k in range(block + 1, self.num_blocks) if k not in self.frozen), self.num_blocks)

    def _phase(self, epoch: int, block: int, trained: int, counts: tuple[int, ...], cached: bool) -> Plan:
        """The plan for an epoch in which ``block`` trains and has trained ``trained`` epochs before."""
        modes = [BlockMode.IDLE] * self.num_blocks
        modes[:block] = [BlockMode.FROZEN] * block
        modes[block] = BlockMode.TRAIN
        before = max((k for k in range(block) if k not in self.frozen), default=0)  # its inputs are kept, or the data
        filling = cached and trained == 0 and block > 0
        source = (before if filling else block) if cached else 0
        # Whether this is the block's last epoch is known only after it, so a phase that may end is evaluated too; and
        # where inputs are kept, those of the test set are.
        due = filling or (trained + 1) % self.eval_every == 0 or trained + 1 >= min(self.epochs, self.patience + 1)
        return Plan(epoch, tuple(modes), counts, source=source, store=filling, evaluate=due)


def converged(losses: Sequence[float], patience: int, tolerance: float) -> bool:
    """True if the best of the last ``patience`` losses is less than ``tolerance`` (relative) below the best before.

    A loss that can be negative is compared by its absolute size, so that the test stays meaningful. No improvement
    at all, of a loss that has reached 0 for one, is less than any tolerance.
    """
    if len(losses) <= patience:
        return False
    before, recent = min(losses[:-patience]), min(losses[-patience:])
    return before <= recent or before - recent < tolerance * abs(before)
