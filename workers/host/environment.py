"""Environment of a run: versions, commit, hardware. Asking git starts a process, so it is not in ``pipeline``."""

import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil
import torch

import pipeline

__all__ = ["ROOT", "commit", "cpu_name", "run_header"]

ROOT = Path(pipeline.__file__ or "").resolve().parent.parent
"""The folder that holds both packages."""


def run_header(
    command: Sequence[str],
    config: Mapping[str, Any],
    threads: int,
    num_stages: int,
    predicted: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Header row of a run's record, to judge and to repeat it: versions, commit, hardware, threads, command, config.

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
        "predicted": None if predicted is None else dict(predicted),
    }  # fmt: skip


def _version(package: str) -> str | None:
    """Installed version of ``package``, or None."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def commit() -> str | None:
    """The commit of this code, ``-dirty`` where files differ from it; None outside a repository."""
    # Installed somewhere below another project's repository, this code is not at that project's commit.
    environment = {**os.environ, "GIT_CEILING_DIRECTORIES": str(ROOT.parent)}
    git = ["git", "-C", str(ROOT)]
    try:
        found = _ask([*git, "rev-parse", "--short=12", "HEAD"], environment)
        # Results that a benchmark has just written are no change of the code.
        changed = _ask([*git, "status", "--porcelain", "-uno", "--", ".", ":!benchmarks/results"], environment)
    except (OSError, subprocess.SubprocessError):
        return None
    return f"{found}-dirty" if changed else found


def _ask(command: Sequence[str], environment: Mapping[str, str]) -> str:
    """Run a command and return what it prints."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True, env=environment)
    return done.stdout.strip()


def cpu_name() -> str:
    """The processor's own name where the system tells it."""
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text(encoding="utf8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
