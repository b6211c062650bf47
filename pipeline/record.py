"""The record of a run: JSON lines as things happen, and ``result.json`` at the end."""

import json
import math
import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil
import torch

from pipeline.digest import combine
from pipeline.plan import BlockMode
from pipeline.schedule import EpochResult

__all__ = ["Recorder", "jsonable", "result_table", "run_header"]


def jsonable(value: Any) -> Any:
    """``value`` with None where a number is not finite: JSON has no word for it, and strict readers refuse ``NaN``."""
    if isinstance(value, Mapping):
        return {key: jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [jsonable(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


class Recorder:
    """Appends rows to ``record.jsonl``; each has left this process when :meth:`write` returns."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", encoding="utf8", buffering=1)

    def write(self, row: Mapping[str, Any]) -> None:
        """One row; the time of writing is added."""
        self._file.write(json.dumps(jsonable({"time_s": round(time.time(), 3), **row}), allow_nan=False) + "\n")

    def close(self) -> None:
        """Ends the record."""
        self._file.close()


def run_header(command: Sequence[str], config: Mapping[str, Any], threads: int, num_stages: int) -> dict[str, Any]:
    """What is needed to judge and to repeat a run: versions, commit, hardware, threads, command, config.

    Never the environment: it may hold secrets.
    """
    return {
        "event": "header", "command": list(command), "config": dict(config),
        "python": platform.python_version(), "platform": platform.platform(),
        "versions": {n: _version(n) for n in ("torch", "torchvision", "numpy")},
        "cuda": torch.version.cuda,
        "commit": commit(), "cpu": cpu_name(), "cores": psutil.cpu_count(logical=False), "threads_per_stage": threads,
        "num_stages": num_stages, "memory_bytes": psutil.virtual_memory().total,
        "devices": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
    }  # fmt: skip


def _version(package: str) -> str | None:
    """Installed version, or None."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def commit() -> str | None:
    """The commit of this code, ``-dirty`` where files differ from it; None outside a repository."""
    root = Path(__file__).resolve().parent.parent
    # Installed somewhere below another project's repository, this code is not at that project's commit.
    environment = {**os.environ, "GIT_CEILING_DIRECTORIES": str(root.parent)}
    git = ["git", "-C", str(root)]
    try:
        found = _ask([*git, "rev-parse", "--short=12", "HEAD"], environment)
        # Results that a benchmark has just written are no change of the code.
        changed = _ask([*git, "status", "--porcelain", "-uno", "--", ".", ":!benchmarks/results"], environment)
    except (OSError, subprocess.SubprocessError):
        return None
    return f"{found}-dirty" if changed else found


def _ask(command: Sequence[str], environment: Mapping[str, str]) -> str:
    """What a command prints."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True, env=environment)
    return done.stdout.strip()


def cpu_name() -> str:
    """The processor's own name where the system tells it."""
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text(encoding="utf8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def result_table(
    about: Mapping[str, Any],
    stage_results: Sequence[Mapping[str, Any]],
    history: Sequence[EpochResult],
    last_scores: Mapping[int, Mapping[str, Any]],
    num_train: int,
    wall_s: float,
) -> dict[str, Any]:
    """``result.json`` of a completed run; its names are fixed, scripts read them.

    Args:
        about: mode, rule, model, dataset, transport, device, threads_per_stage, seed.
        stage_results: from every stage, in order.
        history: the finished epochs.
        last_scores: the newest row of every block that was evaluated.
        num_train: samples of the training set.
        wall_s: from the moment every stage was ready to the last report, evaluation included.
    """
    digests = {k: d for result in stage_results for k, d in result["digests"].items()}
    owner = {k: r["row"]["stage"] for r in stage_results for k in r["digests"]}
    num_blocks = len(digests)
    trained = [sum(e.plan.modes[k] is BlockMode.TRAIN for e in history) for k in range(num_blocks)]
    output = last_scores.get(num_blocks - 1, {})
    rows = [r["row"] for r in stage_results]
    samples = len(history) * num_train
    return {
        "status": "completed", **about, "num_stages": len(rows), "num_blocks": num_blocks,
        "epochs": len(history), "steps": max(r["steps"] for r in stage_results), "wall_s": wall_s,
        "train_samples_per_s": samples / wall_s if wall_s > 0 else 0.0,
        "test": {"accuracy": output.get("test_accuracy"), "loss": output.get("test_loss")},
        "blocks": [
            {
                "block": k, "stage": owner[k], "test_accuracy": last_scores.get(k, {}).get("test_accuracy"),
                "epochs_trained": trained[k], "frozen_at_epoch": _frozen_at(history, k),
            }
            for k in range(num_blocks)
        ],
        "stages": rows,
        "weights_sha256": combine([digests[k] for k in sorted(digests)]), "restarts": 0,
    }  # fmt: skip


def _frozen_at(history: Sequence[EpochResult], block: int) -> int | None:
    """The first epoch in which the block was frozen, or None."""
    return next((e.plan.epoch for e in history if e.plan.modes[block] is BlockMode.FROZEN), None)
