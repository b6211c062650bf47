"""Connection between a stage's process and the coordinator: plans one way, reports the other.

One ``multiprocessing`` connection per stage, a pipe on one host and TCP between hosts; its end of file means that the
other side is gone.
"""

import logging
import os
import queue
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from pipeline.errors import TransportTimeout
from pipeline.schedules.plan import Plan

__all__ = ["EXIT_ORPHANED", "ControlLink"]

EXIT_ORPHANED = 70
"""Exit status of a stage whose coordinator vanished."""

_GOODBYE_S = 10.0
_LOOK_AGAIN_S = 2.0

logger = logging.getLogger(__name__)


def _end_process() -> None:
    """End the process of a stage whose coordinator is gone."""
    os._exit(EXIT_ORPHANED)


class ControlLink:
    """A stage's end of its connection to the coordinator.

    A thread listens, for two reasons: plans that are published ahead must not fill the pipe, and a stage that waits
    for its neighbour must still notice at once that the coordinator is gone, and end.

    Args:
        connection: to the coordinator.
        stage_index: index of this stage.
        orphaned: called on the listening thread when the coordinator is gone. By default it ends the process, for the
            main thread may be waiting anywhere and there is no one left to report to.
    """

    def __init__(
        self, connection: Connection, stage_index: int, orphaned: Callable[[], None] = _end_process
    ) -> None:
        self._connection = connection
        self._orphaned = orphaned
        self._stage_index = stage_index
        self._plans: queue.SimpleQueue[tuple[int, Plan | None]] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._listen, name="control", daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        """Body of the listening thread: takes what the coordinator sends until it ends."""
        try:
            while True:
                topic, body = self._connection.recv()
                if topic == "plan":
                    self._plans.put(body)
                elif topic == "bye":
                    return
        except (EOFError, OSError):
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
        """Report to the coordinator; where that is gone, the report is dropped and the listener ends the process."""
        try:
            with self._lock:
                self._connection.send((topic, body))
        except OSError:
            logger.debug("stage %d had no coordinator to report to", self._stage_index)

    def close(self) -> None:
        """Close the connection without alarm, after the coordinator's goodbye where one comes."""
        self._closing.set()
        self._thread.join(_GOODBYE_S)
        self._connection.close()
