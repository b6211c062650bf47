"""The contract of what shows a run while it goes on, and the view that shows nothing."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from pipeline.records.early_end import EarlyEnd
from pipeline.records.reports import BlockScores, StageProgress
from pipeline.schedules.plan import Plan

__all__ = ["Silent", "View"]


class View(Protocol):
    """Shows a run while it goes on. Called between reports of the stages, so every method has to be quick."""

    early_end: EarlyEnd | None
    """Of a view that may ask for the run's end."""

    def planned(self, plan: Plan) -> None:
        """An epoch is going to be as ``plan`` says; where nothing depends on results, all come before the start."""

    def started(self) -> None:
        """The last stage is ready; the run's clock starts."""

    def progress(self, body: StageProgress) -> None:
        """A stage's news inside an epoch: stage, epoch, step, samples, loss, fill."""

    def epoch(self, plan: Plan, blocks: Sequence[BlockScores]) -> None:
        """Every stage has finished an epoch; a row for each block that was active."""

    def finished(self, table: Mapping[str, Any]) -> None:
        """The run is complete; ``table`` is ``result.json``."""

    def row(self, line: str) -> None:
        """A row of the record, JSON, as it was written."""

    def close(self) -> None:
        """The last call, whatever has happened; nothing more is shown."""


class Silent:
    """A view that shows nothing."""

    early_end: EarlyEnd | None = None

    def planned(self, plan: Plan) -> None:
        """See :class:`View`."""

    def started(self) -> None:
        """See :class:`View`."""

    def progress(self, body: StageProgress) -> None:
        """See :class:`View`."""

    def epoch(self, plan: Plan, blocks: Sequence[BlockScores]) -> None:
        """See :class:`View`."""

    def finished(self, table: Mapping[str, Any]) -> None:
        """See :class:`View`."""

    def row(self, line: str) -> None:
        """See :class:`View`."""

    def close(self) -> None:
        """See :class:`View`."""
