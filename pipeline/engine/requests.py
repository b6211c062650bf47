"""Requests of a stage's program, answered by its driver."""

from dataclasses import dataclass

from pipeline.engine.message import Message
from pipeline.records.reports import EpochRow
from pipeline.schedules.cuts import Cut

__all__ = ["EpochReport", "NextPlan", "Progress", "Receive", "Request", "Send", "Snapshot"]


@dataclass(frozen=True, slots=True)
class Receive:
    """Answered with the next :class:`Message` from stage ``src``."""

    src: int


@dataclass(frozen=True, slots=True)
class Send:
    """Answered with None once ``message`` has been taken over for stage ``dst``."""

    dst: int
    message: Message


@dataclass(frozen=True, slots=True)
class NextPlan:
    """Answered with the :class:`Plan` of ``epoch``, or None when the run is over."""

    epoch: int


@dataclass(frozen=True, slots=True)
class Progress:
    """Answered with None: one optimizer step is done."""

    epoch: int
    step: int


@dataclass(frozen=True, slots=True)
class EpochReport:
    """Answered with None: an epoch is done."""

    row: EpochRow


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Answered with None once the state of the stage's blocks at ``cut`` has been copied."""

    cut: Cut


Request = Receive | Send | NextPlan | Progress | EpochReport | Snapshot
