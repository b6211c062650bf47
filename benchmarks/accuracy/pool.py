"""Pool of runs: several cells at once, each in a process of one compute thread; all end with this process."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.accuracy.attempt import Attempt
from benchmarks.accuracy.cell import Cell, PublishedTable
from workers.sweep import pool

__all__ = ["AccuracyJob", "run_all"]


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
    pool.run_all(jobs, limit, lambda job: Attempt(job.cell, job.seed, data_root, quick), on_end)
