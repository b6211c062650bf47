"""What the runs of a comparison come to: ``compare.json``."""

from collections.abc import Mapping, Sequence
from statistics import mean, median, stdev
from typing import Any

__all__ = ["arm_of", "ratios_of", "summary_of"]

Result = Mapping[str, Any]
"""A run's ``result.json``."""

_KINDS = (
    "peak_rss_bytes", "peak_device_bytes", "parameter_bytes", "optimizer_bytes", "held_bytes", "queue_bytes",
)  # fmt: skip


def summary_of(results: Mapping[str, Sequence[Result]]) -> dict[str, Any]:
    """``arms`` and ``ratios``.

    Args:
        results: of every arm, its rounds in order; the first arm is the one that the others are compared with.
    """
    first = next(iter(results))
    return {
        "arms": {name: arm_of(rounds) for name, rounds in results.items()},
        "ratios": {name: ratios_of(results[first], rounds) for name, rounds in results.items() if name != first},
    }


def arm_of(rounds: Sequence[Result]) -> dict[str, Any]:
    """One arm: medians of its rounds, but the mean of the test accuracies, with their standard deviation."""
    tests = [r["test"]["accuracy"] for r in rounds]
    known = [t for t in tests if t is not None]
    rates = [r["train_samples_per_s"] for r in rounds]
    memory = [_memory(r) for r in rounds]
    return {
        "test": mean(known) if known else None, "test_std": stdev(known) if len(known) > 1 else None, "tests": tests,
        "samples_per_s": median(rates), "samples_per_s_of_rounds": rates,
        "epoch_s": median(_epoch_s(r) for r in rounds), "peak_bytes": median(_peak(r) for r in rounds),
        "memory": {kind: _median(m[kind] for m in memory) for kind in _KINDS},
        "rule": rounds[0]["rule"], "num_stages": rounds[0]["num_stages"],
        "threads_per_stage": rounds[0]["threads_per_stage"], "epochs": [r["epochs"] for r in rounds],
    }  # fmt: skip


def ratios_of(own: Sequence[Result], other: Sequence[Result]) -> dict[str, Any]:
    """The first arm over another one, round by round: medians, with the least and the most of the rounds.

    Samples per second, memory and seconds of an epoch are ratios, ``test`` is a difference.
    """
    pairs = list(zip(own, other, strict=True))
    rates = [a["train_samples_per_s"] / b["train_samples_per_s"] for a, b in pairs]
    tests = [
        a["test"]["accuracy"] - b["test"]["accuracy"] for a, b in pairs
        if a["test"]["accuracy"] is not None and b["test"]["accuracy"] is not None
    ]  # fmt: skip
    return {
        "samples_per_s": median(rates), "samples_per_s_range": [min(rates), max(rates)],
        "epoch_s": median(_epoch_s(a) / _epoch_s(b) for a, b in pairs),
        "peak_bytes": median(_peak(a) / _peak(b) for a, b in pairs), "test": mean(tests) if tests else None,
    }  # fmt: skip


def _epoch_s(result: Result) -> float:
    """Seconds of an epoch, evaluation included."""
    return float(result["wall_s"]) / int(result["epochs"])


def _memory(result: Result) -> dict[str, int | None]:
    """Bytes by kind, of all processes: what several stages of one process share is counted once."""
    by_process = {row["pid"]: row for row in result["stages"]}
    total: dict[str, int | None] = {}
    for kind in _KINDS:
        rows = by_process.values() if kind.startswith("peak") else result["stages"]
        values = [row[kind] for row in rows if row.get(kind) is not None]
        total[kind] = sum(values) if values else None
    return total


def _peak(result: Result) -> int:
    """Bytes of all processes at their peaks: on the device where there is one, else in the host's memory."""
    memory = _memory(result)
    return memory["peak_device_bytes"] or memory["peak_rss_bytes"] or 0


def _median(values: Any) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None
