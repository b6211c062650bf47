"""An ordinary run of the command, watched from outside: its rate, what it took to start and to end, and whose CPU."""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from math import ceil
from pathlib import Path
from typing import Any

import psutil

from benchmarks.arms.onward import figures
from pipeline.config import Config
from pipeline.config.toml_text import to_toml

__all__ = ["epochs_of", "watch_run"]

_ROOT = Path(__file__).resolve().parent.parent
_LOOK_S = 0.25
_WARM_S = 1.0


def epochs_of(config: Config, steps_per_epoch: int, step_s: float, seconds: float) -> tuple[int, int]:
    """Epochs that fill the pipeline, and those of the whole run: these, ``seconds``, and the evaluated last one.

    Args:
        config: of the run.
        steps_per_epoch: of its data.
        step_s: about what a step takes.
        seconds: that are to be measured.
    """
    stages = config.run.stages if isinstance(config.run.stages, int) else 1
    epoch_s = steps_per_epoch * step_s
    warm = max(1, ceil((_WARM_S + stages * step_s) / epoch_s))
    return warm, warm + max(2, round(seconds / epoch_s)) + 1


def watch_run(
    config: Config, warm: int, num_samples: int, data_root: Path, limit_s: float = 900.0, look_s: float = _LOOK_S
) -> dict[str, Any]:
    """Runs ``config`` as the command does, and measures it.

    Args:
        config: of the run; every step has a full batch.
        warm: epochs that fill the pipeline and do not count.
        num_samples: of an epoch.
        data_root: where data sets are.
        limit_s: after so many seconds the run is killed.
        look_s: seconds between two looks at whose CPU it is; one takes 2 ms of a core.

    Returns:
        ``samples_per_s`` (median of windows), ``windows``; ``start_s`` from the command to the first batch, ``end_s``
        from the result to the end of the last process; ``cpu``: cores that the coordinator and that the stages kept
        busy while it ran; and the memory of the stages.

    Raises:
        RuntimeError: the run failed; with what it said.
    """
    with tempfile.TemporaryDirectory(prefix="onward-") as folder:
        out, file = Path(folder) / "run", Path(folder) / "run.toml"
        file.write_text(to_toml(config.to_dict()), encoding="utf8")
        command = [sys.executable, str(_ROOT / "launch.py"), "--config", str(file), "--out", str(out), "--quiet"]
        begun = time.time()
        process = subprocess.Popen(
            [*command, "--data-root", str(data_root)], cwd=_ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True,
        )  # fmt: skip
        try:
            looks = _look(process, begun + limit_s, look_s)
            said = process.communicate(timeout=30)[0]
        finally:
            process.kill()
        ended = time.time()
        if process.returncode != 0:
            raise RuntimeError(f"a run of the study failed (exit status {process.returncode}): {said.strip()[-500:]}")
        rows = [json.loads(line) for line in (out / "record.jsonl").read_text(encoding="utf8").splitlines()]
        result = json.loads((out / "result.json").read_text(encoding="utf8"))
    return {**_measured(rows, result, warm, num_samples, looks, process.pid), **_ends(rows, begun, ended)}


_Look = tuple[float, dict[int, float]]
"""A moment, and the CPU seconds of every process of the command."""


def _look(process: "subprocess.Popen[str]", until: float, look_s: float) -> list[_Look]:
    """Looks at the processes until the command has ended."""
    command, found = psutil.Process(process.pid), []
    while process.poll() is None and time.time() < until:
        seconds = {}
        with suppress(psutil.Error):
            for each in [command, *command.children(recursive=True)]:
                with suppress(psutil.Error):
                    times = each.cpu_times()
                    seconds[each.pid] = times.user + times.system
        found.append((time.time(), seconds))
        with suppress(subprocess.TimeoutExpired):
            process.wait(look_s)
    return found


def _ends(rows: Sequence[Mapping[str, Any]], begun: float, ended: float) -> dict[str, float]:
    """Seconds of start and end."""
    first = next(row for row in rows if row["event"] == "epoch")
    result = next(row for row in rows if row["event"] == "result")
    return {"start_s": first["time_s"] - first["time"]["wall_s"] - begun, "end_s": ended - result["time_s"]}


def _measured(
    rows: Sequence[Mapping[str, Any]], result: Mapping[str, Any], warm: int, num_samples: int,
    looks: Sequence[_Look], command: int,
) -> dict[str, Any]:  # fmt: skip
    """Rate, memory, and CPU between the first and the last epoch."""
    found = figures(rows, warm, num_samples)
    times = [row["time_s"] for row in rows if row["event"] == "epoch"]
    inside = [look for look in looks if times[0] <= look[0] <= times[-1]]
    stages = {stage["pid"] for stage in result["stages"]}
    cpu: dict[str, float | None] = {"coordinator": None, "stages": None}
    if len(inside) > 1:
        (start, before), (end, after) = inside[0], inside[-1]
        spent = {pid: after[pid] - before.get(pid, 0.0) for pid in after}
        cpu["coordinator"] = spent.get(command, 0.0) / (end - start)
        cpu["stages"] = sum(seconds for pid, seconds in spent.items() if pid in stages) / (end - start)
    kinds = ("parameter_bytes", "optimizer_bytes", "held_bytes", "queue_bytes", "peak_rss_bytes")
    return {
        "samples_per_s": found["samples_per_s"], "windows": found["windows"], "cpu": cpu,
        "run_samples_per_s": result["train_samples_per_s"],
        "memory": [{kind: stage[kind] for kind in kinds} for stage in result["stages"]],
    }  # fmt: skip
