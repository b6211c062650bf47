"""Credits: a byte for every message that was taken, back to its sender, which may then send another one."""

import socket
import time
from contextlib import suppress

from workers.transport import Edge
from workers.transports._errors import not_taken
from workers.transports._sockets.end import SocketEnd

__all__ = ["CreditsGiven", "CreditsTaken"]


class CreditsTaken(SocketEnd):
    """A sending end: counts the messages for which there is room."""

    def __init__(self, edge: Edge, sock: socket.socket, limited: tuple[int, ...], count: int) -> None:
        super().__init__(edge, sock, limited)
        self._count = self._free = count

    def _wait_room(self, timeout: float) -> float:
        """Block until a credit has come; returns the seconds."""
        start = time.perf_counter()
        self._allow(timeout)
        self._free += len(self._read())
        return time.perf_counter() - start

    def hear(self) -> None:
        """Take the credits that have come, without waiting: a receiver may wait for room to send those it owes."""
        with suppress(OSError):  # none has come, or the receiver is gone, which is found where one is waited for
            self._free += len(self._read(socket.MSG_DONTWAIT))

    def drain(self, timeout: float) -> None:
        """Wait until the receiver has taken everything.

        Args:
            timeout: longest time in seconds in which it takes nothing: a full queue is as many waits for room.

        Raises:
            TransportTimeout: it did not, or is gone.
        """
        while self._free < self._count:
            try:
                self._wait_room(timeout)
            except OSError as error:
                raise not_taken(self._edge, timeout) from error


class CreditsGiven(SocketEnd):
    """A receiving end: gives a credit for everything that was taken."""

    def __init__(self, edge: Edge, sock: socket.socket, limited: tuple[int, ...]) -> None:
        super().__init__(edge, sock, limited)
        self._owed = 0

    def _give_credit(self) -> None:
        """Send a credit.

        Never blocks: behind hundreds of credits that the sender has not read, a credit is owed and goes with the next.
        The sender reads all there are before it waits, so it sends again before it could miss the owed ones.
        """
        self._owed += 1
        try:
            self._owed -= self._sock.send(bytes(self._owed), socket.MSG_DONTWAIT)
        except OSError:  # BlockingIOError, or a sender or host that is gone: not each kind is a ConnectionError
            return  # a sender that is gone needs no credit, and what it sent can still be read

    def drain(self, deadline: float) -> None:
        """Send the credits that are owed, so that the sender learns that everything was received."""
        self._allow(deadline - time.perf_counter())
        try:
            while self._owed:
                self._owed -= self._sock.send(bytes(self._owed))
        except OSError:
            return  # the sender is gone or does not read credits any more
