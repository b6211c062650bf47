"""A bounded queue between two threads of one process that can fail.

``queue.Queue`` cannot wake its waiters when the thread behind it dies, nor keep the head in place while it is being
sent, so that it still counts as in flight.
"""

import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["Mailbox", "MailboxFailed"]

T = TypeVar("T")


class MailboxFailed(RuntimeError):
    """The thread behind the mailbox has ended; its error is the cause."""


class Mailbox(Generic[T]):
    """First in, first out, at most ``depth`` items. Every wait ends with room, an item, time or failure.

    Args:
        depth: at least 1.
    """

    def __init__(self, depth: int) -> None:
        self._depth = depth
        self._items: deque[tuple[T, int]] = deque()
        self._changed = threading.Condition()
        self.failure: BaseException | None = None
        self._held_bytes = 0
        self.peak_bytes = 0

    def __len__(self) -> int:
        return len(self._items)

    def _wait(self, ready: Callable[[], bool], timeout: float | None) -> None:
        """Waits for ``ready``; the lock is held."""
        if not self._changed.wait_for(lambda: ready() or self.failure is not None, timeout):
            raise TimeoutError
        if not ready():
            raise MailboxFailed from self.failure

    def put(self, item: T, num_bytes: int, timeout: float | None = None) -> None:
        """Appends ``item`` once there is room.

        Args:
            item: anything.
            num_bytes: what it holds, for :attr:`peak_bytes`.
            timeout: seconds, or None for as long as it takes.

        Raises:
            TimeoutError: it stayed full.
            MailboxFailed: the thread that takes items has ended.
        """
        with self._changed:
            if self.failure is not None:
                raise MailboxFailed from self.failure
            self._wait(lambda: len(self._items) < self._depth, timeout)
            self._items.append((item, num_bytes))
            self._held_bytes += num_bytes
            self.peak_bytes = max(self.peak_bytes, self._held_bytes)
            self._changed.notify_all()

    def head(self, timeout: float | None = None) -> T:
        """The oldest item, left in place. What came before a failure can still be had.

        Raises:
            TimeoutError: it stayed empty.
            MailboxFailed: nothing will come.
        """
        with self._changed:
            self._wait(lambda: bool(self._items), timeout)
            return self._items[0][0]

    def drop(self) -> None:
        """Removes the oldest item."""
        with self._changed:
            _, num_bytes = self._items.popleft()
            self._held_bytes -= num_bytes
            self._changed.notify_all()

    def get(self, timeout: float | None = None) -> T:
        """The oldest item, removed; for a single reader. Raises as :meth:`head`."""
        item = self.head(timeout)
        self.drop()
        return item

    def wait_room(self) -> None:
        """Returns when there is room; raises :class:`MailboxFailed` if there never will be."""
        with self._changed:
            self._wait(lambda: len(self._items) < self._depth, None)

    def wait_empty(self) -> None:
        """Returns when everything was taken; raises :class:`MailboxFailed` if it never will be."""
        with self._changed:
            self._wait(lambda: not self._items, None)

    def fail(self, error: BaseException) -> None:
        """Wakes everybody; the first error stays."""
        with self._changed:
            self.failure = self.failure or error
            self._changed.notify_all()
