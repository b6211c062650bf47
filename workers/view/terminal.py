"""Choice of a run's view: a live table on a terminal, plain lines elsewhere, nothing with ``--quiet``."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console

from pipeline.records.reports import BlockScores
from pipeline.records.view import Silent, View
from pipeline.resolve import RunSpec
from pipeline.schedules.cuts import Cut
from pipeline.schedules.plan import Plan
from workers.host.streams import discard, drained, patient
from workers.placement import Placement
from workers.view import ViewMaker
from workers.view.live_table import LiveTable
from workers.view.text import RunText

__all__ = ["Lines", "view_maker"]


def view_maker(*, quiet: bool, begins: Cut | None = None) -> ViewMaker:
    """Choose the view that fits this process's standard output; ``begins``: where a run that is taken up goes on."""

    def make(resolved: RunSpec, placement: Placement, out: Path) -> View:
        """The view of one run."""
        if quiet:
            return Silent()
        text = RunText(resolved, placement, out, begins=begins)
        stream = patient(sys.stdout)  # a reader that does not read must not hold up the coordinator
        console = Console(file=stream, highlight=False)
        # The stream is asked as well: rich takes FORCE_COLOR for a terminal, and a log file wants no table.
        if stream.isatty() and console.is_interactive:
            return LiveTable(resolved, placement, text, console)
        return Lines(text, stream)

    return make


class Lines(Silent):
    """Plain lines: one at the start, one for each epoch when it is done, one at the end.

    Nothing inside an epoch: lines of a log file cannot be drawn over.
    """

    def __init__(self, text: RunText, stream: TextIO) -> None:
        self._text = text
        self._stream: TextIO | None = stream
        self._say(text.headline())

    def _say(self, text: str) -> None:
        """Write one line at once."""
        if self._stream is None:
            return
        try:
            self._stream.write(text + "\n")
            self._stream.flush()
        except OSError:
            discard(self._stream)
            self._stream = None

    def started(self) -> None:
        """Start the clock of the first epoch."""
        self._text.started()

    def epoch(self, plan: Plan, blocks: Sequence[BlockScores]) -> None:
        """Write the epoch's line."""
        self._say(self._text.epoch(plan, blocks))

    def finished(self, table: Mapping[str, Any]) -> None:
        """Write the last line."""
        self._say(", ".join(self._text.ending(table)))

    def close(self) -> None:
        """Wait for a slow reader, a second at most; the stream belongs to the process."""
        drained(self._stream)
