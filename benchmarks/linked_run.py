"""A planned run over two hosts of this machine, with a link of some rate between them."""

from collections.abc import Mapping
from typing import Any

from benchmarks.arms.job import ArmJob
from benchmarks.arms.launch import run
from benchmarks.presets import Preset
from tests.support.hosts import hosts

__all__ = ["linked_run"]

_LIMIT_S = 120.0


def linked_run(preset: Preset, row: Mapping[str, Any], mbit_per_s: float, seconds: float) -> dict[str, Any]:
    """Runs a row of two stages, one on each host; ``samples_per_s``, and ``memory`` of each stage.

    Args:
        preset: of the run.
        row: of the plan.
        mbit_per_s: rate of the link, in both directions.
        seconds: that are measured.

    Raises:
        RuntimeError: the run failed.
    """
    with hosts(2, mbit_per_s * 1e6) as found:
        job = ArmJob(
            module="benchmarks.arms.onward", preset=preset, precision=preset.precision, seconds=seconds,
            threads=row["threads"], partition=tuple(row["partition"]), mode=row["mode"], hosts=tuple(found),
            rate=row["samples_per_s"],
        )  # fmt: skip
        outcome = run(job, _LIMIT_S)
    if outcome.status != "ok":
        raise RuntimeError(f"a run over two hosts failed ({outcome.status}: {outcome.note}). Run it again.")
    return {"samples_per_s": outcome.table["samples_per_s"], "memory": outcome.table["stages"]}
