"""A view that is shown to somebody, or to nobody, and told to hooks and loggers beside."""

import json
import logging
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.records.early_end import EarlyEnd
from pipeline.records.files import jsonable
from pipeline.records.reports import BlockScores, StageProgress
from pipeline.records.view import View
from pipeline.resolve import RunSpec
from pipeline.schedules.plan import Plan
from workers.listening.epochs import LoggedRun
from workers.listening.hooks import Hooks
from workers.listening.logger import Log, write_log
from workers.listening.outlet import Outlet
from workers.placement import Placement
from workers.view import ViewMaker

__all__ = ["listened"]

PATIENCE_S = 60.0
"""Seconds that hooks and loggers have, behind a run, for what they were told and have not done."""
_SHORT_PATIENCE_S = 5.0
"""The same behind a run that has failed or was interrupted."""
_SILENCE_S = 2.0
_TOLD = ("stage", "replica", "epoch", "step", "samples", "loss", "fill")

logger = logging.getLogger(__name__)


def listened(make_view: ViewMaker, logs: Sequence[tuple[str, Log]] = (), hooks: Hooks = Hooks()) -> ViewMaker:
    """Has loggers and hooks told of what a view shows.

    Args:
        make_view: makes that view.
        logs: loggers with their names.
        hooks: the user's.
    """
    return partial(_make, make_view, logs, hooks) if logs or hooks else make_view


def _make(
    make_view: ViewMaker, logs: Sequence[tuple[str, Log]], hooks: Hooks, resolved: RunSpec, placement: Placement,
    out: Path,
) -> View:  # fmt: skip
    run = LoggedRun(out, resolved.config.to_dict(), resolved.num_blocks, placement.replicas.num_processes)
    view = make_view(resolved, placement, out)
    outlets = [Outlet(f"logger {name}", partial(write_log, log, run)) for name, log in logs]
    if not hooks:
        return Listened(view, outlets)
    # Stages run apart by what fits into the queues between them: so many epochs, where epochs are short.
    apart = placement.num_stages * (resolved.config.transport.depth + 2) // resolved.batching.num_steps
    early_end = (view.early_end or EarlyEnd(2 + apart)) if hooks.on_step or hooks.on_epoch else None
    calls = Outlet("hook", partial(hooks.call, run=run, early_end=early_end or EarlyEnd(0)))
    return Listened(view, [*outlets, calls], calls if hooks.on_step else None, early_end)


class Listened:
    """A view, and outlets that are told what it is told.

    Args:
        view: shows the run.
        outlets: are given the rows of the record.
        steps: that of them which is given news inside of epochs, too.
        early_end: what one of them may ask for; that of the view itself, where it has one.
    """

    def __init__(
        self, view: View, outlets: Sequence[Outlet], steps: Outlet | None = None, early_end: EarlyEnd | None = None
    ) -> None:
        self.early_end = early_end or view.early_end
        self._view = view
        self._outlets = outlets
        self._steps = steps
        self._patience_s = _SHORT_PATIENCE_S

    def planned(self, plan: Plan) -> None:
        """See :class:`View`."""
        self._view.planned(plan)

    def started(self) -> None:
        """See :class:`View`."""
        self._view.started()

    def progress(self, body: StageProgress) -> None:
        """See :class:`View`."""
        self._view.progress(body)
        if self._steps is not None:
            self._steps.give({name: body[name] for name in _TOLD if name in body})  # type: ignore[literal-required]

    def epoch(self, plan: Plan, blocks: Sequence[BlockScores]) -> None:
        """See :class:`View`."""
        self._view.epoch(plan, blocks)

    def finished(self, table: Mapping[str, Any]) -> None:
        """See :class:`View`."""
        self._patience_s = PATIENCE_S
        self._give(json.dumps(jsonable({"event": "finished", **table}), allow_nan=False))  # no row of the record
        self._view.finished(table)

    def row(self, line: str) -> None:
        """See :class:`View`."""
        self._view.row(line)
        self._give(line)

    def _give(self, line: str) -> None:
        for outlet in self._outlets:
            outlet.give(line)

    def close(self) -> None:
        """Ends the view, and waits for the outlets, a minute at most; an interrupt ends the waiting and no more."""
        self._view.close()
        until = time.monotonic() + self._patience_s
        for outlet in self._outlets:
            outlet.end()
        try:
            self._tell_who_is_waited_for(time.monotonic() + min(_SILENCE_S, self._patience_s))
            for outlet in self._outlets:
                outlet.join(until)
        except KeyboardInterrupt:
            for outlet in self._outlets:
                outlet.join(0.0)

    def _tell_who_is_waited_for(self, until: float) -> None:
        """Says it of those that are not done at that moment."""
        busy = [outlet.name for outlet in self._outlets if outlet.is_busy(until - time.monotonic())]
        if busy:
            logger.warning(
                "the run is over; waiting up to %.0f s for the %s (Ctrl-C ends the waiting)",
                self._patience_s, " and the ".join(busy),
            )  # fmt: skip
