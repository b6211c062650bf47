"""What the runs of a comparison come to: ``compare.json``."""

import os
from collections.abc import Iterable, Mapping, Sequence
from statistics import mean, median, stdev
from typing import Any

__all__ = ["arm_of", "mean_of", "ratios_of", "spread_of", "summary_of"]

Result = Mapping[str, Any]
"""A run's ``result.json``."""

_KINDS = (
    "peak_rss_bytes", "peak_device_bytes", "parameter_bytes", "optimizer_bytes", "held_bytes", "queue_bytes",
)  # fmt: skip


def summary_of(results: Mapping[str, Sequence[Result | None]]) -> dict[str, Any]:
    """``arms`` and ``ratios``.

    Args:
        results: of every arm, its rounds in order, None for a run that failed; the first arm is the one that the others
            are compared with.
    """
    first = next(iter(results))
    return {
        "arms": {name: arm_of(rounds) for name, rounds in results.items()},
        "ratios": {name: ratios_of(results[first], rounds) for name, rounds in results.items() if name != first},
    }


def arm_of(rounds: Sequence[Result | None]) -> dict[str, Any]:
    """One arm: medians of its rounds, but the mean of the test accuracies and losses, with their standard deviation.

    Figures of single rounds are in the order of the rounds, None where one failed; others are None where all did.
    """
    ended = [r for r in rounds if r is not None]
    tests = [None if r is None else r["test"]["accuracy"] for r in rounds]
    losses = [None if r is None else r["test"].get("loss") for r in rounds]
    memory = [_memory(r) for r in ended]
    last = ended[-1] if ended else {}
    return {
        "test": mean_of(tests), "test_std": spread_of(tests), "tests": tests,
        "test_loss": mean_of(losses), "test_loss_std": spread_of(losses),
        "samples_per_s": _median(r["train_samples_per_s"] for r in ended),
        "samples_per_s_of_rounds": [None if r is None else r["train_samples_per_s"] for r in rounds],
        "epoch_s": _median(_epoch_s(r) for r in ended), "peak_bytes": _median(_peak(r) for r in ended),
        "memory": {kind: _median(m[kind] for m in memory) for kind in _KINDS},
        "rule": last.get("rule"), "num_stages": last.get("num_stages"),
        "threads_per_stage": last.get("threads_per_stage"),
        "epochs": [None if r is None else r["epochs"] for r in rounds], "failed": len(rounds) - len(ended),
    }  # fmt: skip


def ratios_of(own: Sequence[Result | None], other: Sequence[Result | None]) -> dict[str, Any]:
    """The first arm over another one, round by round: medians, with the least and the most of the rounds.

    Samples per second, memory and seconds of an epoch are ratios, ``test`` and ``test_loss`` are differences. A round
    counts where both runs have the figure, and the other one's is not 0; what no round has is None.
    """
    pairs = [(a, b) for a, b in zip(own, other, strict=True) if a is not None and b is not None]
    rates = _quotients((a["train_samples_per_s"], b["train_samples_per_s"]) for a, b in pairs)
    return {
        "samples_per_s": _median(rates), "samples_per_s_range": [min(rates), max(rates)] if rates else None,
        "epoch_s": _median(_quotients((_epoch_s(a), _epoch_s(b)) for a, b in pairs)),
        "peak_bytes": _median(_quotients((_peak(a), _peak(b)) for a, b in pairs)),
        "test": _difference(pairs, "accuracy"), "test_loss": _difference(pairs, "loss"),
    }  # fmt: skip


def mean_of(figures: Sequence[float | None]) -> float | None:
    """The mean of those that are known; None where none is."""
    known = [figure for figure in figures if figure is not None]
    return mean(known) if known else None


def spread_of(figures: Sequence[float | None]) -> float | None:
    """The standard deviation of those that are known; None where they are not several."""
    known = [figure for figure in figures if figure is not None]
    return stdev(known) if len(known) > 1 else None


def _quotients(pairs: Iterable[tuple[float | None, float | None]]) -> list[float]:
    return [a / b for a, b in pairs if a is not None and b]


def _difference(pairs: Sequence[tuple[Result, Result]], score: str) -> float | None:
    """The mean of what the first run of each pair has more of a test score."""
    both = [(a["test"].get(score), b["test"].get(score)) for a, b in pairs]
    return mean_of([a - b for a, b in both if a is not None and b is not None])


def _epoch_s(result: Result) -> float | None:
    """Seconds of an epoch, evaluation included."""
    return float(result["wall_s"]) / int(result["epochs"]) if result["epochs"] else None


def _memory(result: Result) -> dict[str, int | None]:
    """Bytes by kind, of all processes: what several stages of one process share is counted once.

    A peak never falls, so that of a run in this very process is the peak of all runs before it, too, and left out.
    """
    by_process = {row["pid"]: row for row in result["stages"]}
    peaks = [] if os.getpid() in by_process else list(by_process.values())
    total: dict[str, int | None] = {}
    for kind in _KINDS:
        rows = peaks if kind.startswith("peak") else result["stages"]
        values = [row[kind] for row in rows if row.get(kind) is not None]
        total[kind] = sum(values) if values else None
    return total


def _peak(result: Result) -> int | None:
    """Bytes of all processes at their peaks: on the device where there is one, else in the host's memory."""
    memory = _memory(result)
    return memory["peak_device_bytes"] or memory["peak_rss_bytes"]


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None
