"""torchrun's key-value store: how a rank comes to it, and what is said where it is gone."""

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch.distributed as dist
from torch.distributed.distributed_c10d import Store, default_pg_timeout
from torch.distributed.rendezvous import rendezvous

from pipeline.errors import WorkerFailed

__all__ = ["is_lost", "lost_store_named", "open_agent_store"]

_REACH_S = 30.0
"""Seconds in which torchrun's store has to answer: it is there before any rank is, so one that is silent has gone."""
_TRY_S = 5.0
_lost = threading.Event()
_AGAIN_S = 0.2


def is_lost() -> bool:
    """Whether this process has found it gone: there is nobody to look for any more."""
    return _lost.is_set()


@contextmanager
def lost_store_named(rank: int, num_ranks: int) -> Iterator[None]:
    """Has a store that is gone reported as such, in one line, in place of what torch says of it.

    Args:
        rank, num_ranks: this process's place.

    Raises:
        WorkerFailed: the store was lost in the body.
    """
    try:
        yield
    except dist.DistError as error:
        _lost.set()
        where = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
        raise WorkerFailed(
            rank, num_ranks, f"torchrun's store at {where} cannot be reached ({_first_line(error)}): torchrun has "
            "ended on that host, or the host or the network between was lost. Look at its output.",
        ) from None  # fmt: skip


def open_agent_store(rank: int, num_ranks: int) -> Store:
    """The store. Where another launcher than torchrun has started the ranks, that of rank 0.

    Raises:
        WorkerFailed: it cannot be reached.
    """
    is_there = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    with lost_store_named(rank, num_ranks):
        if is_there:
            _reach(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]))
        limit = timedelta(seconds=_REACH_S) if is_there else default_pg_timeout
        store: Store = next(iter(rendezvous("env://", rank, num_ranks, timeout=limit)))[0]
        store.set_timeout(default_pg_timeout)  # for those who wait for each other's keys
    return store


def _reach(host: str, port: int) -> None:
    """Waits until somebody listens there: torch would wait in one call, during which no signal is served.

    Raises:
        DistNetworkError: nobody does.
    """
    deadline = time.monotonic() + _REACH_S
    while True:
        try:
            socket.create_connection((host, port), timeout=_TRY_S).close()
            return
        except OSError as error:
            if time.monotonic() > deadline:
                raise dist.DistNetworkError(str(error)) from None
        time.sleep(_AGAIN_S)


def _first_line(error: Exception) -> str:
    """Of torch's words; what follows is where in its sources it was."""
    return next(iter(str(error).splitlines()), "").strip().rstrip(".") or type(error).__name__
