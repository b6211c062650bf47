"""Parts of every benchmark: environment, spread of repeated figures, turns between arms, JSON file.

Figures that are compared are taken in turns, A B A B: a machine that gets slower or faster meanwhile does so for all
arms. A ratio is taken inside each round, and the median of the ratios is what is quoted.
"""

import json
import os
import signal
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch

from workers.host.environment import run_header

__all__ = ["environment", "leave_on_sigterm", "ratio", "spread", "take_turns", "write"]

Figure = TypeVar("Figure")


_LIMITS = ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS")
"""Variables that keep torch and its libraries from instructions that the processor has."""


def environment(module: str, arguments: Sequence[str], **more: Any) -> dict[str, Any]:
    """Versions, commit, processor and the instructions that are used of it, cores and command; call it before measuring,
    so that the commit is what ran.

    Args:
        module: ``benchmarks.throughput``.
        arguments: of the command line.
        more: what else the figures depend on: threads, precision.
    """
    # Of an absolute path the name alone: results are published, and where they were written is nobody's business.
    told = [_named(argument) for argument in arguments]
    header = run_header(["python", "-m", module, *told], {}, 0, 0)
    for name in ("event", "config", "threads_per_stage", "num_stages"):
        del header[name]
    limits = {name: os.environ[name] for name in _LIMITS if name in os.environ}
    return {
        **header, "instructions": torch.backends.cpu.get_cpu_capability(), "limits": limits,
        "matmul_precision": torch.get_float32_matmul_precision(), **more,
    }  # fmt: skip


def _named(argument: str) -> str:
    """An argument, or what it sets behind the last ``=``, without the folders of an absolute path."""
    key, equals, value = argument.rpartition("=")
    return key + equals + (Path(value).name if Path(value).is_absolute() else value)


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Median, least and most of repeated figures, and all of them in their order."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values), "all": list(values)}


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, Any]:
    """The spread of ``ours / theirs`` round by round."""
    return spread([a / b for a, b in zip(ours, theirs, strict=True)])


def take_turns(arms: Mapping[str, Callable[[], Figure]], rounds: int) -> dict[str, list[Figure]]:
    """Calls every arm once per round, in reverse order in every second round; the figures of each, in order."""
    found: dict[str, list[Figure]] = {name: [] for name in arms}
    for index in range(rounds):
        names = list(arms)
        for name in names if index % 2 == 0 else reversed(names):
            found[name].append(arms[name]())
    return found


def leave_on_sigterm() -> None:
    """Turn SIGTERM into an exception, so that the processes this one has started are killed on the way out.

    SIGHUP does the same, unless ``nohup`` ignores it. A second signal is ignored: ``timeout`` and batch systems send
    several, and the clean-up must not be cut short.
    """

    def stop(number: int, frame: object) -> None:
        for deaf in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(deaf, signal.SIG_IGN)
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, stop)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:
        signal.signal(signal.SIGHUP, stop)


def write(path: Path | None, table: Mapping[str, Any]) -> None:
    """Writes a benchmark's JSON file, where one was asked for."""
    if path is not None:
        path.write_text(json.dumps(table, indent=1) + "\n", encoding="utf8")
