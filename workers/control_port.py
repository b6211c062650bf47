"""Where ranks find rank 0: a TCP port that lets in whoever proves the run's key, and waits for nobody in particular.

A visitor that says nothing, or the wrong thing, is dropped after a few seconds; meanwhile others come in. What rank 0
then sends is sealed with the same key, so that nobody in between can put another job in its place.
"""

import json
import logging
import os
import queue
import socket
import threading
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection, answer_challenge, deliver_challenge

from pipeline.errors import WorkerFailed
from workers.host.identity import ProcessIdentity
from workers.line import UNPROVEN, Limit, Line, own_address, tune

__all__ = ["ControlPort"]

_MAX_VISITORS = 256
"""At a time; more wait in the system's queue."""
_SAY_S = 30.0
"""Seconds after which rank 0 says for whom it waits."""
_HELLO_BYTES = 4096
_ACCEPT_S = 0.5

logger = logging.getLogger(__name__)


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
        except UNPROVEN as error:
            self._refused.append(f"{type(error).__name__}: {error}")
            logger.debug("a visitor at the control port was refused: %s", self._refused[-1])
        finally:
            self._places.release()


def _listen(host: str) -> socket.socket:
    """A server at ``host``; see :class:`ControlPort`."""
    both = not host and socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if both else socket.AF_INET
    return socket.create_server((host, 0), family=family, backlog=1024, dualstack_ipv6=both)


def _meet(visitor: socket.socket, key: bytes, num_ranks: int) -> Line:
    """The line to a visitor; raises one of ``UNPROVEN``."""
    with visitor:
        connection = Connection(os.dup(visitor.fileno()))
        try:
            visitor.settimeout(None)
            with Limit(visitor):
                deliver_challenge(connection, key)
                answer_challenge(connection, key)
                hello = connection.recv_bytes(_HELLO_BYTES)
            table = json.loads(hello)
            if not isinstance(table, dict) or table.get("rank") not in range(1, num_ranks):
                raise ValueError(f"no rank of this run: {hello[:80]!r}")
            identity, about = ProcessIdentity.from_table(table.get("identity")), table.get("about", {})
            if not isinstance(about, dict):
                raise ValueError(f"no words of a rank: {hello[:80]!r}")
            tune(visitor, is_freight=about.get("freight") is True)
            return Line(connection, table["rank"], identity, about, own_address(visitor), key, hello)
        except BaseException:
            connection.close()
            raise
