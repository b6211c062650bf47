"""A rank's visit at rank 0's control port: each proves the key to the other, and the rank says who it is."""

import json
import logging
import os
import secrets
import socket
import time
from collections.abc import Callable, Mapping
from multiprocessing import AuthenticationError
from multiprocessing.connection import Connection, answer_challenge, deliver_challenge
from typing import Any

from pipeline.errors import WorkerFailed
from workers.host.identity import ProcessIdentity
from workers.line import UNPROVEN, VISITOR_S, Limit, Line, own_address, tune

__all__ = ["Moved", "visit"]

_SAY_S = 30.0
"""Seconds after which a rank says that it cannot reach rank 0 yet."""
_AGAIN_S = 0.2

logger = logging.getLogger(__name__)


class Moved(Exception):
    """Nobody answers at a control port, and rank 0 has another one by now."""


def visit(
    host: str,
    port: int,
    key: bytes,
    rank: int,
    num_ranks: int,
    about: Mapping[str, Any] | None = None,
    is_current: Callable[[], bool] = lambda: True,
    deadline: float = 0.0,
) -> Line:
    """The line from ``rank`` to rank 0.

    Args:
        host, port: of rank 0's :class:`ControlPort`.
        key: of the run.
        rank: this one.
        num_ranks: of the run.
        about: what rank 0 is to know of this process, as plain data; ``freight`` is true of a line for files.
        is_current: asked when a visit has failed: whether rank 0 is still to be found there.
        deadline: up to when it is tried again, in the time of ``time.monotonic``.

    Raises:
        Moved: it is not.
        WorkerFailed: it cannot be reached, or has another key.
    """
    said = time.monotonic() + _SAY_S
    while True:
        try:
            return _try(host, port, key, rank, about or {})
        except UNPROVEN as error:
            if not is_current():
                raise Moved from None
            # Another key stays another; a port that is busy with strangers may have time for us yet.
            if isinstance(error, AuthenticationError) or time.monotonic() > deadline:
                raise WorkerFailed(
                    rank, num_ranks,
                    f"rank 0 at {host}:{port} cannot be reached, or has another key ({type(error).__name__}: {error}). "
                    "Set ONWARD_KEY to the same secret on every host, and let that port through.",
                ) from None  # fmt: skip
            if time.monotonic() > said:
                logger.warning("rank 0 at %s:%d is not reached yet (%s: %s)", host, port, type(error).__name__, error)
                said = deadline
        time.sleep(_AGAIN_S)


def _try(host: str, port: int, key: bytes, rank: int, about: Mapping[str, Any]) -> Line:
    """One visit; raises one of ``UNPROVEN``."""
    with socket.create_connection((host, port), timeout=VISITOR_S) as sock:
        sock.settimeout(None)
        tune(sock, is_freight=about.get("freight") is True)
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
    with Limit(sock):
        answer_challenge(connection, key)
        deliver_challenge(connection, key)
        connection.send_bytes(context)
    return Line(connection, 0, identity, {}, own_address(sock), key, context)
