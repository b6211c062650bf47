"""Processes of a gloo group on this host that wait in place of computing, and the time of their steps."""

import multiprocessing
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection

import torch
import torch.distributed as dist

__all__ = ["step_seconds"]

_WARM_STEPS = 3
_LEAST_STEPS = 5
_PATIENCE_S = 120.0

Work = Callable[[int, int], Callable[[], None]]
"""Makes a rank's step from the rank and the number of ranks, once there is a default group."""


def step_seconds(processes: int, work: Work, step_s: float, seconds: float) -> float:
    """Seconds of a step of the first rank.

    Args:
        processes: of the group.
        work: of each; what it needs is inherited.
        step_s: of a step, about.
        seconds: about how long to measure.

    Raises:
        RuntimeError: a process failed.
    """
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    steps = _WARM_STEPS + max(_LEAST_STEPS, round(seconds / step_s))
    with tempfile.TemporaryDirectory() as folder:
        ranks = [
            context.Process(
                target=_rank, daemon=True, args=(rank, processes, folder, work, steps, sender if rank == 0 else None)
            )
            for rank in range(processes)
        ]  # fmt: skip
        for rank in ranks:
            rank.start()
        sender.close()
        try:
            if not receiver.poll(_PATIENCE_S + 20 * seconds):
                raise RuntimeError(f"{processes} processes did not end in time. Lower --others-most.")
            return float(receiver.recv())
        except EOFError:
            raise RuntimeError(f"one of {processes} processes failed. Lower --others-most.") from None
        finally:
            for rank in ranks:
                rank.join(10.0)
                rank.kill()


def _rank(rank: int, size: int, folder: str, work: Work, steps: int, result: Connection | None) -> None:
    """One process."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=size)
    step, moments = work(rank, size), []
    for _ in range(steps):
        step()
        moments.append(time.perf_counter())
    if result is not None:
        result.send((moments[-1] - moments[_WARM_STEPS - 1]) / (steps - _WARM_STEPS))
    dist.barrier()
    dist.destroy_process_group()
