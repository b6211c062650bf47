"""The ranks that torchrun started: this process's place among them, their store, and what outlives a restart."""

import os
import platform
import socket
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import ClassVar, Self

from torch.distributed.distributed_c10d import PrefixStore, Store

from pipeline.errors import ConfigError
from workers.agent_store import lost_store_named, open_agent_store
from workers.last_words import wait_for_first
from workers.resume import Origin, open_origin

__all__ = ["CONTROL", "Ranks", "is_newest", "origin_of", "remember_folder", "store_of", "take_up"]

CONTROL = "control"
"""Key of rank 0's address in :func:`store_of`, until all ranks have come."""
_FOLDER = "onward-folder"
"""Key of the folder that a start has claimed for its run, in torchrun's store, which outlives its restarts."""
_ROUNDS = "onward-rounds"
"""Key of the times that rank 0 has started. torchrun's own count of restarts differs from host to host: one on which no
rank died restarts its ranks because the others do, and does not count that."""


@dataclass(frozen=True)
class Ranks:
    """This process's place among those that torchrun started."""

    rank: int
    num_ranks: int
    ranks_here: int
    local_rank: int
    """This one's number among them."""
    have_met: ClassVar[bool] = False
    """Whether this process has begun to look for the other ranks, or to answer them."""

    @property
    def alone(self) -> bool:
        """All ranks are on this host."""
        return self.ranks_here == self.num_ranks

    @classmethod
    def from_environment(cls) -> Self | None:
        """Read torchrun's variables; None without it, or with a single rank, which starts its own processes."""
        read = os.environ.get
        num_ranks = int(read("WORLD_SIZE", "1"))
        if num_ranks == 1 or read("RANK") is None:
            return None
        return cls(
            rank=int(read("RANK", "0")), num_ranks=num_ranks, ranks_here=int(read("LOCAL_WORLD_SIZE", str(num_ranks))),
            local_rank=int(read("LOCAL_RANK", "0")),
        )  # fmt: skip


def origin_of(
    ranks: Ranks | None, out: Path | None, resume: Path | None, *, allow_changes: bool = False
) -> Origin | None:
    """The run that this one goes on with: that of an earlier start of the same ranks, else the one to be resumed.

    Args:
        ranks: this process's place; None without torchrun.
        out, resume: the folders that the user has named, if any.
        allow_changes: go on with another config.

    Raises:
        ConfigError: there is no run to resume, or a stage raised, and would raise again.
        WorkerFailed: torchrun's store is gone.
    """
    if ranks is None:
        return open_origin(resume, allow_changes=allow_changes) if resume is not None else None
    with lost_store_named(ranks.rank, ranks.num_ranks):
        origin = take_up(ranks, out or resume, allow_changes=allow_changes)
    if origin is None and resume is not None and ranks.rank == 0:
        origin = open_origin(resume, allow_changes=allow_changes)
    return origin


def take_up(ranks: Ranks, named: Path | None, *, allow_changes: bool = False) -> Origin | None:
    """The run that the ranks were in when torchrun started them again; None on their first start, and on ranks but 0.

    None, too, where no start has got as far as a folder of its own: what is in ``named`` then is another run, which
    this start refuses, or resumes where the user says so, as the first one did.

    Args:
        ranks: this process's place.
        named: the run's folder where the user has named one; else the first start has left its name in the store.
        allow_changes: as on the first start.

    Raises:
        ConfigError: a stage raised, and would raise again.
    """
    if ranks.rank > 0 or (restarts := _begin_round(ranks) - 1) == 0:
        return None
    store = _agent_store(ranks)
    if not store.check([_FOLDER]):
        return None
    out = named or Path(store.get(_FOLDER).decode())
    if not (out / "record.jsonl").exists():  # it never began
        return None
    return open_origin(out, allow_changes=allow_changes, restarts=restarts)


def remember_folder(ranks: Ranks, out: Path) -> None:
    """Leaves the run's folder for :func:`take_up`, once it is this run's. Raises WorkerFailed: the store is gone."""
    with lost_store_named(ranks.rank, ranks.num_ranks):
        _agent_store(ranks).set(_FOLDER, str(out.resolve()))


def store_of(ranks: Ranks) -> Store:
    """torchrun's own key-value store, a name space for each time that rank 0 has started.

    On ranks but 0 it is the newest that there is, and rank 0 may be about to begin another one: see :func:`is_newest`.
    """
    number = _begin_round(ranks) if ranks.rank == 0 else _newest_round(ranks)
    return _store_of_round(ranks, number)


def is_newest(ranks: Ranks, store: Store) -> bool:
    """False once rank 0 has started again: nobody answers any more to what ``store`` says."""
    return store is _store_of_round(ranks, _newest_round(ranks))


@cache
def _begin_round(ranks: Ranks) -> int:
    """Its number, from 1; once in rank 0's process."""
    return _agent_store(ranks).add(_ROUNDS, 1)


def _newest_round(ranks: Ranks) -> int:
    return _agent_store(ranks).add(_ROUNDS, 0)


@cache
def _store_of_round(ranks: Ranks, number: int) -> Store:
    return PrefixStore(f"onward-{number}", _agent_store(ranks))


@cache
def _agent_store(ranks: Ranks) -> Store:
    """The same without name spaces: what is in it outlives the ranks.

    Raises:
        ConfigError: its host has no address here.
        WorkerFailed: it cannot be reached.
    """
    _check_name(ranks, os.environ.get("MASTER_ADDR", ""))
    return open_agent_store(ranks.rank, ranks.num_ranks)


def _check_name(ranks: Ranks, name: str) -> None:
    """Refuse a name of rank 0's host that this host does not know; said once on each host."""
    try:
        socket.getaddrinfo(name, None)
    except OSError as error:
        if ranks.local_rank > 0:  # the first one of the host says it, and torchrun's report begins with that
            wait_for_first()
            raise SystemExit(2) from None
        raise ConfigError(
            f"this host does not know the address of rank 0's host (given: MASTER_ADDR={name} on {platform.node()}, "
            f"{error}). Add the name to /etc/hosts, or give torchrun on rank 0's host --local-addr with its address."
        ) from None
