"""How the other ranks find rank 0: it leaves its address in torchrun's store, and they visit it there.

What is in that store outlives the ranks. Where torchrun has started them again, some may look while it still holds the
address that rank 0 had before: nobody answers there, and they look again.
"""

import json
import time
from datetime import timedelta
from functools import partial
from pathlib import Path

import torch.distributed as dist
from torch.distributed.distributed_c10d import Store

from pipeline.errors import WorkerFailed
from workers.agent_store import lost_store_named
from workers.host.resources import gpu_names
from workers.line import Line
from workers.ranks import CONTROL, Ranks, is_newest, store_of
from workers.run_key import given_key, read_key
from workers.visit import Moved, visit

__all__ = ["find_rank_0"]

_GET_S = 1.0
_AGAIN_S = 0.1
"""Between two looks. torch would wait in one call, during which no signal is served, and torchrun kills such a rank
only after half a minute."""


def find_rank_0(ranks: Ranks, offered: Path | None, patience_s: float) -> tuple[Store, Line, Line | None]:
    """The store of this round of ranks, this rank's line for reports, and that for files where there are other hosts.

    What the store says may be a stranger's: it is told nothing, and runs nothing.

    Args:
        ranks: this process's place.
        offered: a folder of this host for the files of its stages; None where another rank offers it.
        patience_s: seconds in which rank 0 has to be found: it may be started minutes after the others.

    Raises:
        WorkerFailed: rank 0 leaves no address, cannot be reached, or has another key; or torchrun's store is gone.
    """
    Ranks.have_met = True
    deadline = time.monotonic() + patience_s
    with lost_store_named(ranks.rank, ranks.num_ranks):
        while True:
            store = _with_address(ranks, deadline, patience_s)
            try:
                return store, *_visit(ranks, store, offered, deadline)
            except Moved:
                continue


def _with_address(ranks: Ranks, deadline: float, patience_s: float) -> Store:
    """The newest store, once it holds an address."""
    while True:
        store = store_of(ranks)
        if store.check([CONTROL]):
            return store
        if time.monotonic() > deadline:
            raise WorkerFailed(
                ranks.rank, ranks.num_ranks, f"rank 0 has not left its address in torchrun's store within "
                f"{patience_s:.0f} s (run.start_timeout_s). Look at its output.",
            )  # fmt: skip
        time.sleep(_AGAIN_S)


def _visit(ranks: Ranks, store: Store, offered: Path | None, deadline: float) -> tuple[Line, Line | None]:
    """The lines of :func:`find_rank_0`; raises ``Moved`` where rank 0 has started again."""
    key = given_key(alone=ranks.alone)
    try:
        store.wait([CONTROL], timedelta(seconds=_GET_S))
    except dist.DistStoreError:  # rank 0 has taken it away since
        raise Moved from None
    try:
        about = json.loads(store.get(CONTROL))
        host, port, path = str(about["host"]), int(about["port"]), about["key_file"]
        key_path = Path(path) if key is None else Path()
    except (ValueError, TypeError, KeyError) as error:
        raise WorkerFailed(
            ranks.rank, ranks.num_ranks,
            f"torchrun's store holds no address of rank 0 ({type(error).__name__}: {error}). Use a rendezvous "
            "endpoint that nobody else writes to.",
        ) from None  # fmt: skip
    go = partial(
        visit, host, port, key or read_key(key_path), ranks.rank, ranks.num_ranks,
        is_current=lambda: is_newest(ranks, store), deadline=deadline,
    )  # fmt: skip
    freight = None if ranks.alone else go({"freight": True})
    folder = str(offered) if offered is not None else None
    return go({"local_rank": ranks.local_rank, "folder": folder, "gpus": gpu_names()}), freight
