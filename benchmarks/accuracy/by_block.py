"""The course of every block of a run, epoch by epoch, and metrics that are read off it.

An epoch's rounds are those of all blocks at once: a run of n epochs has taken n rounds, whatever blocks trained in
them. Updates are counted in whole steps: a block that takes half of each step for two epochs has made those of one.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benchmarks.accuracy.cell import Metric

__all__ = ["at_round", "at_updates", "block_error", "course", "drift_at", "moved", "updates_saved", "updates_taken"]

_ALL, _EVERY = 50, 10
"""Epochs that are all kept, and how many of the later ones: each tenth, and the last."""
_SLACK = 1e-3
"""Updates are kept with four digits."""


def course(epochs: Sequence[Mapping[str, Any]], num_blocks: int) -> dict[str, Any]:
    """What the store keeps of every block.

    Args:
        epochs: the rows ``epoch`` of a record, of those blocks that took part.
        num_blocks: of the network.

    Returns:
        ``course``: ``epochs``, counted from 0, and for each a list by block of ``errors`` (percent of the test set, by
        the block's own scores), ``parts`` (the mean part of its steps), ``drift``, and ``taken``, the epochs' worth of
        whole steps since the run's start. None where there is no value. ``block_errors``: each block's last error.
    """
    taken = [0.0] * num_blocks
    errors: list[float | None] = [None] * num_blocks
    found: dict[str, list[Any]] = {name: [] for name in ("epochs", "errors", "parts", "taken", "drift")}
    for row in epochs:
        there = {int(block["block"]): block for block in row["blocks"]}
        blocks: list[Mapping[str, Any]] = [there.get(k, {}) for k in range(num_blocks)]
        parts = [_part(block) for block in blocks]
        taken = [a + b for a, b in zip(taken, parts, strict=True)]
        own = [_error(block.get("test_accuracy")) for block in blocks]
        errors = [old if new is None else new for old, new in zip(errors, own, strict=True)]
        if row["epoch"] < _ALL or (row["epoch"] + 1) % _EVERY == 0 or row is epochs[-1]:
            drift = [_short(block.get("drift")) for block in blocks]
            values = (row["epoch"], own, [_short(part) for part in parts], [_short(t) for t in taken], drift)
            for name, value in zip(found, values, strict=True):
                found[name].append(value)
    return {"course": found, "block_errors": errors}


def _part(block: Mapping[str, Any]) -> float:
    """Of its steps in an epoch. Args: block, its row; empty where it took no part."""
    return float(block.get("gate", 1.0)) if block.get("trained") else 0.0


def _error(accuracy: float | None) -> float | None:
    return None if accuracy is None else round(100 * (1 - accuracy), 4)


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")


def _scored(run: Mapping[str, Any]) -> Iterator[tuple[int, float, float]]:
    """Rounds that are over, updates that are taken in the mean over blocks, and the output block's error, where that
    was evaluated."""
    found = run["course"]
    for epoch, taken, errors in zip(found["epochs"], found["taken"], found["errors"], strict=True):
        if errors[-1] is not None:
            yield epoch + 1, sum(taken) / len(taken), errors[-1]


def at_round(count: int) -> Metric:
    """The output block's error after so many epochs, blocks that take turns counted like others."""

    def metric(run: Mapping[str, Any]) -> float | None:
        return next((error for number, _, error in _scored(run) if number == count), None)

    return metric


def at_updates(count: float) -> Metric:
    """The output block's error when blocks have taken so many epochs' worth of whole steps, in the mean over blocks:
    between the two evaluations around that, by a straight line through logarithms, for errors fall by shares: a
    chord lies above such a curve, and would be held against the arms that are read between evaluations. None where
    they have not taken as many, or had before the first evaluation."""

    def metric(run: Mapping[str, Any]) -> float | None:
        before: tuple[float, float] | None = None
        for _, taken, error in _scored(run):
            if abs(taken - count) <= _SLACK:
                return error
            if taken > count:
                return None if before is None else _between(before, (taken, error), count)
            before = taken, error
        return None

    return metric


def _between(before: tuple[float, float], after: tuple[float, float], x: float) -> float:
    """On the straight line through two points, of the logarithms where both have one."""
    share = (x - before[0]) / (after[0] - before[0])
    if min(before[1], after[1]) <= 0.0:
        return before[1] + share * (after[1] - before[1])
    return float(before[1] * (after[1] / before[1]) ** share)


def updates_taken(run: Mapping[str, Any]) -> float | None:
    """Epochs' worth of whole steps in the whole run, in the mean over blocks."""
    last: Sequence[float] = run["course"]["taken"][-1]
    return sum(last) / len(last)


def updates_saved(run: Mapping[str, Any]) -> float | None:
    """Share of the steps of the whole run that blocks did not take, in percent, in the mean over blocks."""
    taken = updates_taken(run)
    return None if taken is None else 100.0 * (1.0 - taken / (run["course"]["epochs"][-1] + 1))


def block_error(block: int) -> Metric:
    """A block's own error when it was last evaluated; -1 is the output block."""

    def metric(run: Mapping[str, Any]) -> float | None:
        found: float | None = run["block_errors"][block]
        return found

    return metric


def drift_at(count: int, block: int) -> Metric:
    """The drift of a block's input after so many epochs; None where it was not measured."""

    def metric(run: Mapping[str, Any]) -> float | None:
        found = run["course"]
        at = found["epochs"].index(count - 1) if count - 1 in found["epochs"] else None
        drift: float | None = None if at is None else found["drift"][at][block]
        return drift

    return metric


def moved(block: int) -> Metric:
    """How far a block's weights have moved from one measurement to the next, in percent of their length, a mean over
    those in which they did. None where they never did."""

    def metric(run: Mapping[str, Any]) -> float | None:
        found = [value for row in run["updates"] or () if (value := row["blocks"][block])]
        return 100.0 * sum(found) / len(found) if found else None

    return metric
