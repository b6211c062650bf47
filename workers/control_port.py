"""Where ranks find rank 0: a TCP port that lets in whoever proves the run's key, and waits for nobody in particular.

A visitor that says nothing, or the wrong thing, is dropped after a few seconds; meanwhile others come in. What rank 0
then sends is sealed with the same key, so that nobody in between can put another job in its place.
"""

import json
import logging
import os
import queue
import secrets
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import AuthenticationError
from multiprocessing.connection import Connection, answer_challenge, deliver_challenge
from typing import Any

from pipeline.errors import WorkerFailed
from workers.host.identity import ProcessIdentity
from workers.run_key import seal, unseal

__all__ = ["VISITOR_S", "ControlPort", "Line", "visit"]

VISITOR_S = 5.0
"""Seconds that a visitor has to prove the key and say who it is."""

_MAX_VISITORS = 256
"""At a time; more wait in the system's queue."""
_LOST_S = 6
"""Seconds without an answer of the other host after which the system closes a line for reports."""
_PATIENCE_S = 30.0
"""Seconds in which a rank tries to reach rank 0."""
_AGAIN_S = 0.2
_SAY_S = 30.0
"""Seconds after which rank 0 says for whom it waits."""
_HELLO_BYTES = 4096
_ACCEPT_S = 0.5
_UNPROVEN = (OSError, EOFError, AuthenticationError, AssertionError, ValueError)
"""What a visitor that is not one of ours may cause: cut lines, wrong answers, other protocols."""

logger = logging.getLogger(__name__)


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


class ControlPort:
    """Rank 0's port.

    Args:
        key: of the run.
        host: address to listen at; empty for every address of this host, of either kind.
        num_ranks: of the run.
        with_freight: every rank brings a second line, for files.
    """

    def __init__(self, key: bytes, host: str, num_ranks: int, *, with_freight: bool = False) -> None:
        self._key = key
        self._num_ranks = num_ranks
        self._with_freight = with_freight
        self.lines: dict[int, Line] = {}
        """The lines for reports that have come, by rank."""
        self.freight: dict[int, Line] = {}
        """The lines for files that have."""
        self._server = _listen(host)
        self._server.settimeout(_ACCEPT_S)
        self.port: int = self._server.getsockname()[1]
        self._proven: queue.SimpleQueue[Line] = queue.SimpleQueue()
        self._places = threading.BoundedSemaphore(_MAX_VISITORS)
        self._closing = threading.Event()
        self._refused: list[str] = []
        threading.Thread(target=self._accept, name="control port", daemon=True).start()

    def wait_for_ranks(self, timeout_s: float) -> dict[int, Line]:
        """The lines to all other ranks, once they have come.

        Raises:
            WorkerFailed: one has not come within ``timeout_s``.
        """
        deadline, said = time.monotonic() + timeout_s, time.monotonic() + _SAY_S
        self.lines, self.freight = {}, {}
        while absent := self._absent():
            try:
                line = self._proven.get(timeout=max(0.0, min(said, deadline) - time.monotonic()))
            except queue.Empty:
                if time.monotonic() >= deadline:
                    raise self._missing(absent, timeout_s) from None
                logger.warning("waiting for ranks %s; see their outputs", ", ".join(map(str, absent)))
                said = deadline
                continue
            is_freight = line.about.get("freight") is True
            found = self.freight if is_freight else self.lines
            if line.rank in found or is_freight and not self._with_freight:
                line.connection.close()
            else:
                found[line.rank] = line
        return self.lines

    def _absent(self) -> list[int]:
        """Ranks of which a line is missing."""
        wanted = (self.lines, self.freight) if self._with_freight else (self.lines,)
        return [rank for rank in range(1, self._num_ranks) if any(rank not in found for found in wanted)]

    def _missing(self, ranks: Sequence[int], timeout_s: float) -> WorkerFailed:
        """The error of ``ranks`` that did not come."""
        visitors = f" {len(self._refused)} visitors were refused, the last one: {self._refused[-1]}." if (
            self._refused
        ) else ""  # fmt: skip
        return WorkerFailed(
            ranks[0], self._num_ranks,
            f"it did not come to rank 0 within {timeout_s:.0f} s, nor did {len(ranks) - 1} others.{visitors} "
            f"Look at its output, and let TCP port {self.port} of rank 0's host through.",
        )  # fmt: skip

    def close(self) -> None:
        """Let nobody else in."""
        self._closing.set()

    def _accept(self) -> None:
        """Body of the thread that opens the door."""
        with self._server:
            while not self._closing.is_set():
                if not self._places.acquire(timeout=_ACCEPT_S):
                    continue
                try:
                    visitor, _ = self._server.accept()
                except OSError:  # no visitor within the time limit, or one that has hung up
                    self._places.release()
                    continue
                threading.Thread(target=self._examine, args=(visitor,), daemon=True).start()

    def _examine(self, visitor: socket.socket) -> None:
        """Body of the thread of one visitor."""
        try:
            self._proven.put(_meet(visitor, self._key, self._num_ranks))
        except _UNPROVEN as error:
            self._refused.append(f"{type(error).__name__}: {error}")
            logger.debug("a visitor at the control port was refused: %s", self._refused[-1])
        finally:
            self._places.release()


def _listen(host: str) -> socket.socket:
    """A server at ``host``; see :class:`ControlPort`."""
    both = not host and socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if both else socket.AF_INET
    return socket.create_server((host, 0), family=family, backlog=1024, dualstack_ipv6=both)


def _own_address(sock: socket.socket) -> str:
    """This host's address on a line; an IPv4 address as such, also at a server of both kinds."""
    return str(sock.getsockname()[0]).removeprefix("::ffff:")


class _Limit:
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


def _meet(visitor: socket.socket, key: bytes, num_ranks: int) -> Line:
    """The line to a visitor; raises one of ``_UNPROVEN``."""
    with visitor:
        connection = Connection(os.dup(visitor.fileno()))
        try:
            visitor.settimeout(None)
            with _Limit(visitor):
                deliver_challenge(connection, key)
                answer_challenge(connection, key)
                hello = connection.recv_bytes(_HELLO_BYTES)
            table = json.loads(hello)
            if not isinstance(table, dict) or table.get("rank") not in range(1, num_ranks):
                raise ValueError(f"no rank of this run: {hello[:80]!r}")
            identity, about = ProcessIdentity.from_table(table.get("identity")), table.get("about", {})
            if not isinstance(about, dict):
                raise ValueError(f"no words of a rank: {hello[:80]!r}")
            _tune(visitor, is_freight=about.get("freight") is True)
            return Line(connection, table["rank"], identity, about, _own_address(visitor), key, hello)
        except BaseException:
            connection.close()
            raise


def visit(
    host: str, port: int, key: bytes, rank: int, num_ranks: int, about: Mapping[str, Any] | None = None
) -> Line:
    """The line from ``rank`` to rank 0.

    Args:
        host, port: of rank 0's :class:`ControlPort`.
        key: of the run.
        rank: this one.
        num_ranks: of the run.
        about: what rank 0 is to know of this process, as plain data; ``freight`` is true of a line for files.

    Raises:
        WorkerFailed: it cannot be reached, or has another key.
    """
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            return _try(host, port, key, rank, about or {})
        except _UNPROVEN as error:
            # Another key stays another; a port that is busy with strangers may have time for us yet.
            if isinstance(error, AuthenticationError) or time.monotonic() > deadline:
                raise WorkerFailed(
                    rank, num_ranks,
                    f"rank 0 at {host}:{port} cannot be reached, or has another key ({type(error).__name__}: {error}). "
                    "Set ONWARD_KEY to the same secret on every host, and let that port through.",
                ) from None  # fmt: skip
        time.sleep(_AGAIN_S)


def _try(host: str, port: int, key: bytes, rank: int, about: Mapping[str, Any]) -> Line:
    """One visit; raises one of ``_UNPROVEN``."""
    with socket.create_connection((host, port), timeout=VISITOR_S) as sock:
        sock.settimeout(None)
        _tune(sock, is_freight=about.get("freight") is True)
        connection = Connection(os.dup(sock.fileno()))
        try:
            return _introduce(connection, sock, key, rank, about)
        except BaseException:
            connection.close()
            raise


def _introduce(
    connection: Connection, sock: socket.socket, key: bytes, rank: int, about: Mapping[str, Any]
) -> Line:
    """Prove the key, have rank 0 prove it, and say who this is."""
    identity = ProcessIdentity.own()
    hello = {"rank": rank, "identity": identity.to_table(), "about": dict(about), "visit": secrets.token_hex(16)}
    context = json.dumps(hello).encode("utf8")
    with _Limit(sock):
        answer_challenge(connection, key)
        deliver_challenge(connection, key)
        connection.send_bytes(context)
    return Line(connection, 0, identity, {}, _own_address(sock), key, context)


def _tune(sock: socket.socket, *, is_freight: bool) -> None:
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
