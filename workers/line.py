"""A line between rank 0 and another rank, both of which have proved the run's key."""

import socket
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import AuthenticationError
from multiprocessing.connection import Connection
from typing import Any

from workers.host.identity import ProcessIdentity
from workers.run_key import seal, unseal

__all__ = ["UNPROVEN", "VISITOR_S", "Limit", "Line", "own_address", "tune"]

VISITOR_S = 5.0
"""Seconds that a visitor has to prove the key and say who it is."""
UNPROVEN = (OSError, EOFError, AuthenticationError, AssertionError, ValueError)
"""What a visitor that is not one of ours may cause: cut lines, wrong answers, other protocols."""
_LOST_S = 6
"""Seconds without an answer of the other host after which the system closes a line for reports."""


@dataclass(frozen=True)
class Line:
    """A connection between rank 0 and another rank, both of which have proved the key."""

    connection: Connection
    rank: int
    """Of the other rank: 0 for rank 0."""
    identity: ProcessIdentity
    """Of the process that visited; that of rank 0 comes sealed."""
    about: Mapping[str, Any]
    """What the visitor has said of itself beside that."""
    address: str
    """Of this host on the line."""
    _key: bytes
    _context: bytes
    """Of this visit and no other."""

    def send(self, data: bytes) -> None:
        """Send ``data``, sealed."""
        self.connection.send_bytes(seal(self._key, self._context, data))

    def receive(self) -> bytes:
        """Wait for what rank 0 sends.

        Raises:
            EOFError, OSError: rank 0 is gone.
            ValueError: somebody else sent it.
        """
        return unseal(self._key, self._context, self.connection.recv_bytes())


class Limit:
    """Closes a connection for both directions unless it is left within ``VISITOR_S``."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._timer = threading.Timer(VISITOR_S, self._cut)
        self._timer.daemon = True

    def _cut(self) -> None:
        with suppress(OSError):  # gone by itself
            self._sock.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> None:
        self._timer.start()

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()


def own_address(sock: socket.socket) -> str:
    """This host's address on a line; an IPv4 address as such, also at a server of both kinds."""
    return str(sock.getsockname()[0]).removeprefix("::ffff:")


def tune(sock: socket.socket, *, is_freight: bool) -> None:
    """Have the system close a line when the other host is lost. One for files may stand still as long as a disk does:
    the one for reports beside it tells of the host."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    options = {"TCP_KEEPIDLE": _LOST_S // 3, "TCP_KEEPINTVL": _LOST_S // 3, "TCP_KEEPCNT": 2}
    if not is_freight:
        options["TCP_USER_TIMEOUT"] = 1000 * _LOST_S
    for name, value in options.items():
        if hasattr(socket, name):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
