"""Pool of runs: several cells at once, each in a process of one compute thread; all end with this process."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.accuracy.attempt import Attempt
from benchmarks.accuracy.cell import Cell, PublishedTable

__all__ = ["AccuracyJob", "run_all"]

_PAUSE_S = 0.1


@dataclass(frozen=True)
class AccuracyJob:
    """One seed of one cell."""

    table: PublishedTable
    cell: Cell
    seed: int


def run_all(
    jobs: Sequence[AccuracyJob], limit: int, data_root: Path, on_end: Callable[[AccuracyJob, dict[str, Any]], None], *,
    quick: bool = False,
) -> None:  # fmt: skip
    """Runs every job, the first ones first.

    Args:
        jobs: what to run.
        limit: runs at once.
        data_root: where data sets are.
        on_end: called with what is to be kept of each run, as it ends.
        quick: with the cells' quick configs.
    """
    waiting, going = list(reversed(jobs)), list[tuple[AccuracyJob, Attempt]]()
    try:
        while waiting or going:
            while waiting and len(going) < limit:
                job = waiting.pop()
                going.append((job, Attempt(job.cell, job.seed, data_root, quick)))
            time.sleep(_PAUSE_S)
            for job, attempt in list(going):
                run = attempt.poll()
                if run is not None:
                    going.remove((job, attempt))
                    on_end(job, run)
    finally:
        for _, attempt in going:
            attempt.stop()
