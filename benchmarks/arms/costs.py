"""Seconds of each block under the local rule and under backprop, from which every arm's partition follows.

Measured once for all arms and rounds, and in a process of its own, which then holds no device memory.
"""

import statistics
import tempfile
from pathlib import Path
from typing import Any

import torch

from benchmarks.arms.job import ArmJob
from pipeline.planning.block_costs import block_seconds
from pipeline.resolve import resolve

__all__ = ["main"]

_TIMES = 3


def main(job: ArmJob) -> dict[str, Any]:
    """Seconds per step of each block: ``local`` and ``backprop``."""
    return {"local": _seconds(job, "parallel"), "backprop": _seconds(job, "gpipe")}


def _seconds(job: ArmJob, mode: str) -> list[float]:
    """The median of a few measurements, each the least of up to fifteen: one disturbance must not move a cut."""
    config = job.preset.config(precision=job.precision, mode=mode, microbatches=1)
    resolved = resolve(config, Path(tempfile.gettempdir()))
    device = torch.device(job.preset.device)
    found = [block_seconds(resolved, job.threads, device) for _ in range(_TIMES)]
    return [statistics.median(times) for times in zip(*found, strict=True)]
