"""Connection between a stage's process and the coordinator: plans one way, reports the other, beats both ways.

One ``multiprocessing`` connection per stage, a pipe on one host and TCP between hosts; its end of file means that the
other side is gone. A side that is stopped, or whose host has vanished, leaves its end open and says nothing more:
that is what beats are for.
"""

import logging
import os
import queue
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from pipeline.errors import TransportTimeout
from pipeline.records.reports import Pulse
from pipeline.schedules.plan import Plan
from workers import messages

__all__ = ["BEAT_S", "EXIT_ORPHANED", "SILENT_S", "ControlLink"]

EXIT_ORPHANED = 70
"""Exit status of a stage whose coordinator vanished."""
BEAT_S = 1.0
"""Seconds between two beats."""
SILENT_S = 3.0
"""Three beats that did not come: the other side is looked at."""

_GOODBYE_S = 10.0
_LOOK_AGAIN_S = 2.0

logger = logging.getLogger(__name__)


def _end_process() -> None:
    """End the process of a stage whose coordinator is gone."""
    os._exit(EXIT_ORPHANED)


class ControlLink:
    """A stage's end of its connection to the coordinator.

    A thread serves it, for three reasons: plans that are published ahead must not fill the pipe, a stage that waits
    for its neighbour must still notice at once that the coordinator is gone, and end, and one that hangs must still
    say where.

    Args:
        connection: to the coordinator.
        stage_index: index of this stage.
        orphaned: called on the serving thread when the coordinator is gone. By default it ends the process, for the
            main thread may be waiting anywhere and there is no one left to report to.
        silent: called on the serving thread while the coordinator has missed three beats, once in a beat; where it
            is the parent of this process, it may be stopped as long as the user likes.
        told: called on the serving thread when the coordinator says why the run ends.
    """

    def __init__(
        self,
        connection: Connection,
        stage_index: int,
        orphaned: Callable[[], None] = _end_process,
        silent: Callable[[], None] = lambda: None,
        told: Callable[[Any], None] = lambda body: None,
    ) -> None:
        self._connection = connection
        self._orphaned = orphaned
        self._silent = silent
        self._told = told
        self._stage_index = stage_index
        self._plans: queue.SimpleQueue[tuple[int, Plan | None]] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._pulse: Callable[[], Pulse] | None = None
        self._thread = threading.Thread(target=self._serve, name="control", daemon=True)
        self._thread.start()

    def watch(self, pulse: Callable[[], Pulse]) -> None:
        """Have the beats say what the stage is doing; ``pulse`` is called on the serving thread."""
        self._pulse = pulse

    def _serve(self) -> None:
        """Body of the serving thread: takes what the coordinator sends until it ends, and beats."""
        due = heard = time.monotonic()
        try:
            while True:
                if self._connection.poll(max(0.0, due - time.monotonic())):
                    topic, body = messages.receive(self._connection)
                    heard = time.monotonic()
                    if topic == "plan":
                        self._plans.put(body)
                    elif topic == "verdict":
                        self._told(body)
                    elif topic == "bye":
                        return
                now = time.monotonic()
                if now >= due:
                    # After a stop of this process itself, what the coordinator said meanwhile is read first.
                    heard = now if now - due > BEAT_S else heard
                    due = now + BEAT_S
                    self.send("beat", self._pulse() if self._pulse is not None else None)
                    if now - heard > SILENT_S:
                        self._silent()
        except (EOFError, OSError, ValueError):
            if not self._closing.is_set():
                self._orphaned()

    def next_plan(self, epoch: int) -> Plan | None:
        """Wait for the plan of ``epoch``; None when the run is over.

        Waits as long as the coordinator is there: other stages may be loading data, or training a block whose
        result decides the plan, and either may take any time.

        Raises:
            TransportTimeout: the coordinator is gone.
        """
        while True:
            try:
                number, plan = self._plans.get(timeout=_LOOK_AGAIN_S)
                break
            except queue.Empty:
                if not self._thread.is_alive():
                    raise TransportTimeout(
                        f"stage {self._stage_index} waited for the plan of epoch {epoch} and the coordinator is gone. "
                        "Look at its output for the reason."
                    ) from None
        if number != epoch:
            raise RuntimeError(f"the plan of epoch {number} came when epoch {epoch} was due")
        return plan

    def send(self, topic: str, body: Any) -> None:
        """Report to the coordinator; where that is gone, the report is dropped and the serving thread ends the
        process."""
        data = messages.encode(topic, body)
        try:
            with self._lock:
                self._connection.send_bytes(data)
        except OSError:
            logger.debug("stage %d had no coordinator to report to", self._stage_index)

    def close(self) -> None:
        """Close the connection without alarm, after the coordinator's goodbye where one comes."""
        self._closing.set()
        self._thread.join(_GOODBYE_S)
        self._connection.close()
