"""The coordinator: hands out plans, collects reports, notices the dead.

It runs in the parent process, or as a thread of rank 0 under torchrun; it never touches a tensor, and no stage ever
waits for it except for a plan that depends on results.
"""

import logging
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any

from pipeline.errors import ConfigError, WorkerFailed
from pipeline.records.reports import StageFailure
from pipeline.records.run_state import RunState

__all__ = ["Coordinator"]

SECONDARY_GRACE_S = 1.0
"""A stage that lost its neighbour may report before the neighbour's own report or end of file arrives."""

START_PATIENCE = 10
"""Times ``run.timeout_s`` may pass in silence before every stage is ready."""

logger = logging.getLogger(__name__)


class Coordinator:
    """Serves the stages at the other end of ``links`` until all have ended.

    Args:
        run_state: decides and remembers.
        links: a connection to each stage, in order.
        sentinels: of their processes where this process started them: readable when one has ended.
        timeout_s: longest silence of all stages together, once all are ready.
        how_ended: for the message about a stage that died: `` (exit status 1)``.
    """

    def __init__(
        self,
        run_state: RunState,
        links: Sequence[Connection],
        sentinels: Sequence[int],
        timeout_s: float,
        how_ended: Callable[[int], str] = lambda stage: "",
    ) -> None:
        self._run_state = run_state
        self._open = dict(enumerate(links))
        self._sentinels = dict(zip(sentinels, range(len(sentinels)), strict=False))
        self._num_stages = len(links)
        self._timeout_s = timeout_s
        self._how_ended = how_ended
        self._ready: set[int] = set()
        self._failed: dict[int, StageFailure] = {}

    def run(self) -> None:
        """Until every stage has sent its result.

        Raises:
            WorkerFailed: a stage raised or died, or nothing was heard of any for ``timeout_s``.
            ConfigError: a stage found that the user's data or module is wrong.
        """
        heard = time.monotonic()
        while not self._run_state.is_complete:
            events = wait([*self._open.values(), *self._sentinels], timeout=1.0)
            if events:
                heard = time.monotonic()
            elif time.monotonic() - heard > self._patience_s:
                raise self._silence()
            for event in events:
                self._take(event)
            if self._failed:
                self._raise_first()
        for link in self._open.values():
            _send(link, ("bye", None))

    def _publish(self) -> None:
        """Sends every plan that has become known."""
        for plan in self._run_state.new_plans():
            for link in self._open.values():
                _send(link, ("plan", plan))

    def _take(self, event: Any) -> None:
        """One report, or the end of a process."""
        if isinstance(event, int):
            self._ended(self._sentinels.pop(event))
            return
        stage = next((s for s, link in self._open.items() if link is event), None)
        if stage is None:
            return
        try:
            topic, body = event.recv()
        except (EOFError, OSError):
            del self._open[stage]
            self._ended(stage)
            return
        self._hear(stage, topic, body)

    def _hear(self, stage: int, topic: str, body: Any) -> None:
        """One report."""
        if topic == "progress":
            self._run_state.progress(body)
        elif topic == "epoch":
            self._run_state.epoch(body)
            self._publish()
        elif topic == "saved":
            self._run_state.saved(body)
        elif topic == "result":
            self._run_state.result(body)
        elif topic == "ready":
            self._ready.add(stage)
            if len(self._ready) == self._num_stages:
                self._run_state.ready()
                self._publish()
        else:
            self._failed[stage] = body

    def _ended(self, stage: int) -> None:
        """A process or a line has ended: expected after a result, else the stage is dead."""
        if stage not in self._run_state.results and stage not in self._failed:
            link = self._open.get(stage)
            if link is not None and link.poll():
                return  # its last report is still in the connection
            text = f"its process died without a word{self._how_ended(stage)}"
            self._failed[stage] = {"stage": stage, "kind": "died", "message": text, "text": text}

    def _raise_first(self) -> None:
        """Raises the failure that came first in the order of causes: a lost neighbour is a consequence."""
        deadline = time.monotonic() + SECONDARY_GRACE_S
        while all(f["kind"] == "TransportTimeout" for f in self._failed.values()) and time.monotonic() < deadline:
            for event in wait([*self._open.values(), *self._sentinels], timeout=0.1):
                self._take(event)
        causes = [f for f in self._failed.values() if f["kind"] != "TransportTimeout"] or list(self._failed.values())
        # Prefer a stage's traceback to a bare exit status.
        cause = min(causes, key=lambda f: f["kind"] == "died")
        if cause["kind"] == "ConfigError":  # found late, in the data itself, and still the user's to fix
            raise ConfigError(cause["message"])
        is_lost = cause["kind"] in ("died", "TransportTimeout")
        raise WorkerFailed(cause["stage"], self._num_stages, cause["text"], is_lost=is_lost)

    @property
    def _patience_s(self) -> float:
        """Longest silence: a stage that reads its data says nothing until it is ready."""
        return self._timeout_s * (1 if len(self._ready) == self._num_stages else START_PATIENCE)

    def _silence(self) -> WorkerFailed:
        """The error of a run in which no stage reported for too long."""
        missing = [s for s in range(self._num_stages) if s not in self._ready] or [0]
        doing = "one batch of one stage" if len(self._ready) == self._num_stages else "reading the data"
        return WorkerFailed(
            missing[0], self._num_stages,
            f"nothing was heard of it or any other stage for {self._patience_s:.0f} s (run.timeout_s: "
            f"{self._timeout_s:.0f}). Raise it if {doing} takes longer.", is_lost=True,
        )  # fmt: skip


def _send(link: Connection, message: Any) -> None:
    """A stage that has ended is noticed where its end is read, not here."""
    try:
        link.send(message)
    except (BrokenPipeError, ConnectionResetError):
        logger.debug("a stage had ended before it could be told")
