"""Processes of a gloo group on this host that wait in place of computing, and the time of their steps."""

import tempfile
import time
from collections.abc import Callable

import torch.distributed as dist

from benchmarks.pair import run_group

__all__ = ["step_seconds"]

_WARM_STEPS = 3
_LEAST_STEPS = 5
_PATIENCE_S = 120.0

Work = Callable[[int, int], Callable[[], None]]
"""Makes a rank's step from the rank and the number of ranks, once there is a default group. Picklable."""


def step_seconds(processes: int, work: Work, step_s: float, seconds: float) -> float:
    """Seconds of a step of the first rank.

    Args:
        processes: of the group.
        work: of each.
        step_s: of a step, about.
        seconds: about how long to measure.

    Raises:
        RuntimeError: a process failed, or they did not end in time.
    """
    steps = _WARM_STEPS + max(_LEAST_STEPS, round(seconds / step_s))
    with tempfile.TemporaryDirectory() as folder:
        each = [(processes, folder, work, steps)] * processes
        try:
            return float(run_group(_rank, each, timeout_s=_PATIENCE_S + 20 * seconds))
        except RuntimeError as error:
            raise RuntimeError(
                f"emulated processes did not end well (given: {processes} of them; {error}). Lower --others-most if "
                "they are too many for this machine."
            ) from error


def _rank(rank: int, size: int, folder: str, work: Work, steps: int) -> float:
    """One process."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=size)
    step, moments = work(rank, size), []
    for _ in range(steps):
        step()
        moments.append(time.perf_counter())
    dist.barrier()
    dist.destroy_process_group()
    return (moments[-1] - moments[_WARM_STEPS - 1]) / (steps - _WARM_STEPS)
