"""Door of a stage: streams that others open to it are let in once they have said for which edge they are.

Several may stand at the door at a time, so one that says nothing holds up nobody; it is sent away after a while, and
one that says something wrong at once.
"""

import selectors
import socket
import struct
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from hmac import compare_digest

from workers.transport import Edge
from workers.transports._errors import not_connected

__all__ = ["HELLO", "HELLO_S", "SECRET_BYTES", "Door"]

SECRET_BYTES = 16
HELLO = struct.Struct(f"<{SECRET_BYTES}sII")
"""What a stream begins with: the listener's secret, the sending and the receiving stage."""
HELLO_S = 5.0
"""In which a visitor has to say it."""


@dataclass(eq=False)
class _Visitor:
    """A stream that has not yet said all of its hello."""

    sock: socket.socket
    until: float
    said: bytearray = field(default_factory=bytearray)

    def listen(self) -> bool:
        """Reads what has come; False where nothing more will."""
        try:
            part = self.sock.recv(HELLO.size - len(self.said))
        except BlockingIOError:
            return True
        except OSError:
            return False
        self.said += part
        return bool(part)


class Door:
    """A listening socket and those who stand before it.

    Args:
        listener: stays the caller's.
        secret: that every stage was told, of ``SECRET_BYTES``.
    """

    def __init__(self, listener: socket.socket, secret: bytes) -> None:
        self._listener = listener
        self._secret = secret
        self._visitors: list[_Visitor] = []
        self._selector = selectors.DefaultSelector()
        listener.setblocking(False)
        self._selector.register(listener, selectors.EVENT_READ)

    def __enter__(self) -> "Door":
        return self

    def __exit__(self, *_: object) -> None:
        for visitor in list(self._visitors):
            self._send_away(visitor)
        self._selector.close()

    def let_in(
        self, edges: Iterable[Edge], deadline: float, patience_s: float
    ) -> Iterator[tuple[Edge, socket.socket]]:
        """The streams of all edges, in the order in which they come; they are the caller's from then on.

        Args:
            edges: that are expected.
            deadline: of ``time.perf_counter``, until which all of them have to be there.
            patience_s: that were allowed, for the message.

        Raises:
            TransportTimeout: one did not come in time.
        """
        expected = {(edge.src, edge.dst): edge for edge in edges}
        while expected:
            now = time.perf_counter()
            if now >= deadline:
                missing = next(iter(expected.values()))
                raise not_connected(missing, missing.src, patience_s)
            for key, _ in self._selector.select(min([deadline, *(v.until for v in self._visitors)]) - now):
                if key.data is None:
                    self._greet()
                    continue
                known = self._heard(key.data, expected)
                if known is not None:
                    yield known, key.data.sock
            for visitor in [v for v in self._visitors if v.until <= time.perf_counter()]:
                self._send_away(visitor)

    def _greet(self) -> None:
        """Somebody has come, unless he is gone again."""
        with suppress(BlockingIOError, ConnectionAbortedError):
            sock, _ = self._listener.accept()
            sock.setblocking(False)
            visitor = _Visitor(sock, time.perf_counter() + HELLO_S)
            self._visitors.append(visitor)
            self._selector.register(sock, selectors.EVENT_READ, visitor)

    def _heard(self, visitor: _Visitor, expected: dict[tuple[int, int], Edge]) -> Edge | None:
        """The edge that a visitor is for, once he has said so; a stranger is sent away."""
        goes_on = visitor.listen()
        if len(visitor.said) < HELLO.size:
            if not goes_on:
                self._send_away(visitor)
            return None
        secret, src, dst = HELLO.unpack(visitor.said)
        edge = expected.pop((src, dst), None) if compare_digest(secret, self._secret) else None
        if edge is None:
            self._send_away(visitor)
        else:
            self._forget(visitor)
        return edge

    def _send_away(self, visitor: _Visitor) -> None:
        self._forget(visitor)
        visitor.sock.close()

    def _forget(self, visitor: _Visitor) -> None:
        self._visitors.remove(visitor)
        self._selector.unregister(visitor.sock)
