"""A thread with a queue in front of it, for what is told of a run and must never hold it up."""

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator

from workers.listening.epochs import StepNews

__all__ = ["MOST_ROWS", "MOST_STEPS", "Outlet"]

MOST_STEPS = 1000
"""News inside of epochs are dropped while so many items wait."""
MOST_ROWS = 100_000
"""Rows of the record are dropped while so many items wait."""

_LOOK_S = 5.0

logger = logging.getLogger(__name__)

Item = str | StepNews


class Outlet:
    """Hands items on to one consumer, in order and in a thread of its own; to give it one takes no time.

    Args:
        name: of the consumer, for messages: ``logger csv``.
        consume: takes the items until there are no more. What it raises is told once, and nothing more is given to it.
    """

    def __init__(self, name: str, consume: Callable[[Iterator[Item]], None]) -> None:
        self.name = name
        self._consume = consume
        self._queue: queue.Queue[Item | None] = queue.Queue()
        self._is_over = False
        self._num_dropped = {"steps": 0, "rows": 0}
        self._thread = threading.Thread(target=self._run, name=f"onward {name}", daemon=True)
        self._thread.start()

    def give(self, item: Item) -> None:
        """Returns at once: what finds too many others waiting is dropped and counted."""
        if self._is_over:
            return
        kind, most = ("rows", MOST_ROWS) if isinstance(item, str) else ("steps", MOST_STEPS)
        if self._queue.qsize() >= most:
            self._num_dropped[kind] += 1
        else:
            self._queue.put(item)

    def end(self) -> None:
        """There is nothing more to give; :meth:`join` waits."""
        self._queue.put(None)

    def is_busy(self, seconds: float) -> bool:
        """Whether the consumer is still at work after so many seconds of waiting for its end."""
        self._thread.join(max(0.0, seconds))
        return self._thread.is_alive()

    def join(self, until: float) -> None:
        """Waits for the consumer to end, and says what it has missed.

        Args:
            until: the moment, by ``time.monotonic``, from which on it is not waited for.
        """
        if self.is_busy(until - time.monotonic()):
            self._is_over = True
            left = max(0, self._queue.qsize() - 1)
            logger.warning(
                "the %s is not waited for any longer: it had not taken %d of what it was told", self.name, left
            )
        missed = [f"{count} {kind}" for kind, count in self._num_dropped.items() if count]
        if missed:
            logger.warning("the %s was slower than the run: %s were not told to it", self.name, " and ".join(missed))

    def _run(self) -> None:
        try:
            self._consume(self._items())
        except BaseException as error:  # an exit too: nobody but the run itself ends this process
            logger.warning(
                "the %s has failed and is told nothing more; training goes on (%s: %s)", self.name,
                type(error).__name__, error, exc_info=error,
            )  # fmt: skip
        finally:
            self._is_over = True
            self._queue = queue.Queue()  # nobody will read what waits

    def _items(self) -> Iterator[Item]:
        """What was given, until its end or that of the process's own thread."""
        while True:
            try:
                item = self._queue.get(timeout=_LOOK_S)
            except queue.Empty:
                if threading.main_thread().is_alive():
                    continue
                return
            if item is None or self._is_over:
                return
            yield item
