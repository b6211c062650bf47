"""Selection: which epoch's weights a run ends with, by the validation set; the test set is scored once, by these.

Stages of a pipeline run ahead of each other, so where every block trains the decision lags an epoch behind: the plan
of epoch n depends on the epochs up to n - 2, and no stage waits for news of the epoch that another one is still in,
unless it is more than an epoch ahead of it. When training is to stop, one more epoch is under way; it counts like any
other. Each stage keeps copies of the states that may still be chosen, three at most: the best one that is known, and
those of the last two epochs.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pipeline.config import Config
from pipeline.data.dataset import DataSpec
from pipeline.errors import ConfigError
from pipeline.schedules.plan import BlockMode, Choice, Plan
from pipeline.schedules.schedule import EpochResult, Schedule, Value, Waiting

__all__ = ["Selecting", "best_epoch", "check_selection"]


def check_selection(config: Config, data: DataSpec) -> None:
    """Refuses to stop by a validation set that is not there, and to choose where nothing is learned.

    Raises:
        ConfigError: there is none, or compute is emulated.
    """
    if config.train.patience and not data.num_validation:
        raise ConfigError(
            f"there is no validation set to stop by (given: train.patience = {config.train.patience} with no "
            "validation samples, expected: 0, or dataset.validation above 0). Set dataset.validation, e.g. to 0.1: the "
            "test set is never looked at to decide."
        )
    if config.chaos.emulates and data.num_validation:
        raise ConfigError(
            f"compute cannot be emulated (given: chaos.compute = \"sleep\" with {data.num_validation} samples for "
            "validation, expected: none). Leave dataset.validation out, or set chaos.compute to \"real\"."
        )


def best_epoch(history: Sequence[EpochResult], block: int, first: int = 0) -> int | None:
    """The first of the epochs from ``first`` on whose value of ``block`` is the best; None where none has one."""
    found: tuple[Value, int] | None = None
    for result in history[first:]:
        value = result.values[block] if result.values else None
        if value is not None and (found is None or value > found[0]):
            found = value, result.plan.epoch
    return None if found is None else found[1]


@dataclass(frozen=True, slots=True)
class Selecting(Schedule):
    """The plans of another schedule, with the choice of an epoch, and a last plan that scores the test set.

    Where blocks take turns, each is frozen with the weights of its own best epoch, by its own decoder; one without a
    decoder stays as it ended.
    """

    inner: Schedule
    num_blocks: int
    epochs: int
    """The most that a block may train."""
    patience: int
    """Scored epochs without a better value after which training stops; 0: it does not."""

    @property
    def depends_on_results(self) -> bool:  # type: ignore[override]
        """Blocks take turns. How long they train depends on the validation set in any case."""
        return self.inner.depends_on_results

    def waits_for(self, epoch: int, history: Sequence[EpochResult]) -> int:
        """See :class:`Schedule`."""
        end = self._end(epoch, history)
        return self._known(epoch) if end is None or epoch < end else end

    def plan(self, epoch: int, history: Sequence[EpochResult]) -> Plan | None:
        """See :class:`Schedule`."""
        end = self._end(epoch, history)
        if end is not None and epoch >= end:
            return self.last(end, history) if epoch == end else None
        plan = self.inner.plan(epoch, history if self.depends_on_results else ())
        assert plan is not None, "training is not over"
        known = history[: self._known(epoch)]
        if not self.depends_on_results:
            return replace(plan, choice=Choice(best_epoch(known, self.num_blocks - 1), len(known)))
        first = self._begun(plan.top, known)
        best = best_epoch(known, plan.top, first)
        return replace(plan, choice=Choice(best, len(known), self._restored(known) if first == epoch else None))

    def _known(self, epoch: int) -> int:
        """Epochs of which an epoch's plan may know."""
        return epoch if self.depends_on_results else max(0, epoch - 1)

    def _end(self, epoch: int, history: Sequence[EpochResult]) -> int | None:
        """Epochs that are trained in all, as far as the plan of ``epoch`` may know it; None where more are."""
        known = history[: self._known(epoch)]
        if self.depends_on_results:
            return len(known) if self.inner.plan(len(known), known) is None else None
        waiting = Waiting(self.patience)
        for result in known:
            if waiting.is_over(result.values[-1] if result.values else None):
                return min(result.plan.epoch + 2, self.epochs)  # the next one is under way
        return self.epochs

    def _begun(self, block: int, history: Sequence[EpochResult]) -> int:
        """The epoch in which the phase of ``block`` began, or begins."""
        return next((e.plan.epoch for e in history if e.plan.top == block), len(history))

    def _restored(self, history: Sequence[EpochResult]) -> int | None:
        """The best epoch of the phase that is over; None where it is the last one, or there is none."""
        if not history:
            return None
        top = history[-1].plan.top
        best = best_epoch(history, top, self._begun(top, history))
        return None if best == history[-1].plan.epoch else best

    def last(self, end: int, history: Sequence[EpochResult]) -> Plan:
        """The plan that scores the test set after ``end`` epochs, all of which are in ``history``."""
        top = history[-1].plan.top
        best = best_epoch(history, top, self._begun(top, history))
        best = end - 1 if best is None else best
        return Plan(
            end, (BlockMode.FROZEN,) * self.num_blocks, history[-1].plan.lr_epochs,
            choice=Choice(best, end, None if best == end - 1 else best, scores_test=True),
        )  # fmt: skip
