"""Processes of a gloo group on this host that wait in place of computing, and the time of their steps."""

import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import torch
import torch.distributed as dist

from workers.host.fork_server import process_context

__all__ = ["step_seconds"]

_WARM_STEPS = 3
_LEAST_STEPS = 5
_PATIENCE_S = 120.0
_JOIN_S = 10.0
_MOST_SAID = 1000
"""Of an error: what all of them write into one pipe must not be torn."""

Work = Callable[[int, int], Callable[[], None]]
"""Makes a rank's step from the rank and the number of ranks, once there is a default group. Picklable."""


def step_seconds(processes: int, work: Work, step_s: float, seconds: float) -> float:
    """Seconds of a step of the first rank.

    The processes come from the fork server: one that has computed, or has a GPU, may not be forked.

    Args:
        processes: of the group.
        work: of each.
        step_s: of a step, about.
        seconds: about how long to measure.

    Raises:
        RuntimeError: a process failed, or they did not end in time.
    """
    context: Any = process_context()
    receiver, sender = context.Pipe(duplex=False)
    steps, found = _WARM_STEPS + max(_LEAST_STEPS, round(seconds / step_s)), None
    with tempfile.TemporaryDirectory() as folder:
        ranks = [
            context.Process(target=_rank, daemon=True, args=(rank, processes, folder, work, steps, sender))
            for rank in range(processes)
        ]
        try:
            for rank in ranks:
                rank.start()
            sender.close()
            if receiver.poll(_PATIENCE_S + 20 * seconds):
                found = receiver.recv()
        except EOFError:
            found = "all of them ended without a word"
        finally:
            for rank in [rank for rank in ranks if rank.pid is not None]:
                if isinstance(found, float):
                    rank.join(_JOIN_S)
                rank.kill()
                rank.join(_JOIN_S)
    if not isinstance(found, float):
        what = "they did not end in time" if found is None else found
        raise RuntimeError(f"{processes} emulated processes failed ({what}). See the cause, or lower --others-most.")
    return found


def _rank(rank: int, size: int, folder: str, work: Work, steps: int, result: Connection) -> None:
    """One process: the first tells the seconds of a step, any of them what went wrong."""
    try:
        torch.set_num_threads(1)
        dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=size)
        step, moments = work(rank, size), []
        for _ in range(steps):
            step()
            moments.append(time.perf_counter())
        if rank == 0:
            result.send((moments[-1] - moments[_WARM_STEPS - 1]) / (steps - _WARM_STEPS))
        dist.barrier()
        dist.destroy_process_group()
    except Exception as error:
        result.send(f"rank {rank}: {type(error).__name__}: {error}"[:_MOST_SAID])
        raise
