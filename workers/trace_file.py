"""``trace.json``: each stage writes its part to the run's folder, the parent or rank 0 merges them.

Parts are files and not reports to the coordinator because a stage that fails still has time to write one, and no
report should wait for it. A stage that is killed, or stopped because another one failed, leaves none; the trace of
such a run holds the stages that there are and names those that are missing. A trace that cannot be written is logged
and costs the run nothing else.
"""

import json
import logging
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.records.chrome_trace import StageTrace, chrome_events
from pipeline.records.files import whole_file
from pipeline.records.time_budget import TimeBudget
from pipeline.records.trace_bytes import trace_from_bytes, trace_to_bytes
from pipeline.records.traced_budget import TracedBudget
from workers.courier import Courier
from workers.job import Job

__all__ = ["merge_parts", "open_budget", "save_part"]

logger = logging.getLogger(__name__)


def open_budget(job: Job) -> TimeBudget:
    """Make the time budget of a stage, one that keeps a trace where the run is to have one."""
    return TimeBudget() if job.trace is None else TracedBudget()


def save_part(
    job: Job, budget: TimeBudget, courier: Courier | None = None, timeout_s: float | None = None
) -> None:
    """Write the trace that ``budget`` has kept, if any, to the run's folder.

    Args:
        job: the stage's.
        budget: the stage's.
        courier: brings the file to rank 0's host, from another one.
        timeout_s: longest wait for that.
    """
    if job.trace is None or not isinstance(budget, TracedBudget):
        return
    zero_s, aligned_by = job.trace.zero()
    trace = StageTrace(
        job.stage_index, job.num_stages, job.blocks, os.getpid(), platform.node(), zero_s, aligned_by,
        budget.recording(),
    )  # fmt: skip
    path = job.out / f"trace-stage-{job.stage_index}.part"
    try:
        with whole_file(path) as unfinished:
            unfinished.write_bytes(trace_to_bytes(trace))
    except OSError as error:
        _lost(path, error)
        return
    if courier is not None:
        courier.post(path)
        courier.wait(timeout_s)


def merge_parts(out: Path) -> None:
    """Merge the parts in the run's folder ``out`` into ``trace.json`` and remove them, where there are any.

    A part that cannot be read is logged and stays; only a run that keeps a trace calls this.
    """
    traces: dict[Path, StageTrace] = {}
    for path in sorted(out.glob("trace-stage-*.part")):
        try:
            if path.is_symlink() or not path.is_file():
                raise ValueError("it is no file")
            traces[path] = trace_from_bytes(path.read_bytes())
        except (OSError, ValueError) as error:
            logger.warning("a part of the trace is left out (given: %s, %s). Delete it.", path, error)
    if not traces:
        return
    try:
        _merge(out, traces)
    except (OSError, ValueError, OverflowError) as error:
        _lost(out / "trace.json", error)


def _lost(path: Path, error: Exception) -> None:
    """Log that the run goes on without a trace, or with its parts only."""
    logger.warning("cannot write the trace (given: %s, %s). Make room, and run again with --trace.", path, error)


def _merge(out: Path, parts: Mapping[Path, StageTrace]) -> None:
    """See :func:`merge_parts`."""
    traces = sorted(parts.values(), key=lambda trace: trace.stage)
    with whole_file(out / "trace.json") as unfinished, unfinished.open("w", encoding="utf8") as file:
        # A line for each event: a long run has millions, and they are never all in memory at once.
        file.write('{"displayTimeUnit": "ms", "otherData": ')
        file.write(json.dumps(_about(traces)))
        file.write(', "traceEvents": [')
        separator = "\n"
        for event in chrome_events(traces):
            file.write(separator + json.dumps(event))
            separator = ",\n"
        file.write("\n]}\n")
    for path in [*parts, *out.glob(".trace-stage-*.part")]:  # the latter of stages that were killed while writing
        path.unlink()


def _about(traces: Sequence[StageTrace]) -> dict[str, Any]:
    """``otherData`` of the trace: how its clocks agree, and which stages are missing or incomplete."""
    return {
        "origin": "just before the first stage was started",
        "aligned_by": {t.stage: t.aligned_by for t in traces},
        "stages_missing": sorted(set(range(traces[0].num_stages)) - {t.stage for t in traces}),
        "stopped_early_us": {
            t.stage: t.at_ns(t.recording.end_s) / 1e3 for t in traces if t.recording.is_full
        },
    }  # fmt: skip
