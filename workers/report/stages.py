"""What the processes of a run did with their time and memory, epoch by epoch, from its record and its result."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.records.time_budget import Activity
from workers.report.given import number, table, tables
from workers.report.measured import Curve

__all__ = ["ACTIVITIES", "KINDS", "WORK", "Slice", "StageStory", "stories_of"]

ACTIVITIES = tuple(activity.value for activity in Activity)
WORK = ("forward", "learn", "eval")
"""Of these activities: the stage computes."""
KINDS = ("parameter", "optimizer", "held", "queue")
"""Kinds of memory, as ``result.json`` has them with ``_bytes`` behind."""


@dataclass(frozen=True)
class Slice:
    """A stretch of a process's time."""

    start_s: float
    end_s: float
    shares: Mapping[str, float]
    """Of each activity; they add up to one."""


@dataclass(frozen=True)
class StageStory:
    """One process of a run."""

    stage: int
    name: str
    """``stage 0``, ``stage 0, replica 1``."""
    blocks: str
    """``blocks 0-3``; empty where it is not known."""
    seconds: Mapping[str, float]
    """By activity, of the whole run, as far as it is known."""
    memory: Mapping[str, float | None]
    """Bytes: by kind, and ``peak_rss``, ``peak_device``."""
    slices: Sequence[Slice]
    """One for each epoch."""
    staleness: Curve
    """Mean lateness of the updates of each epoch."""
    fill: Curve
    """Messages waiting in front of the stage, a mean over each epoch."""

    @property
    def wall_s(self) -> float:
        """Seconds of all activities."""
        return sum(self.seconds.values())

    @property
    def busy(self) -> float | None:
        """Share of the time in which it computed; None without any."""
        return sum(self.seconds.get(name, 0.0) for name in WORK) / self.wall_s if self.wall_s > 0 else None


def stories_of(record: Sequence[Mapping[str, Any]], result: Mapping[str, Any]) -> list[StageStory]:
    """The processes of a run, in order.

    Args:
        record: rows of ``record.jsonl``.
        result: what is in ``result.json``; may be that of a run that has not ended, or empty.
    """
    rows: dict[tuple[int, int], list[Mapping[str, Any]]] = {}
    for row in record:
        if row.get("event") == "epoch" and isinstance(row.get("stage"), int):
            rows.setdefault((row["stage"], int(row.get("replica", 0))), []).append(row)
    ends = {(row["stage"], int(row.get("replica", 0))): row for row in tables(result.get("stages")) if "stage" in row}
    several = {stage for stage, replica in {*rows, *ends} if replica > 0}
    return [_story(key, rows.get(key, []), ends.get(key, {}), key[0] in several) for key in sorted({*rows, *ends})]


def _story(
    key: tuple[int, int], rows: Sequence[Mapping[str, Any]], end: Mapping[str, Any], is_one_of_several: bool
) -> StageStory:
    name = f"stage {key[0]}" + (f", replica {key[1]}" if is_one_of_several else "")
    slices = list(_slices(rows))
    return StageStory(
        key[0], name, _blocks(rows, end), _seconds(end) or _sum(slices),
        {kind: number(end.get(f"{kind}_bytes")) for kind in (*KINDS, "peak_rss", "peak_device")}, slices,
        _curve(rows, "staleness"), _curve(rows, "fill"),
    )  # fmt: skip


def _blocks(rows: Sequence[Mapping[str, Any]], end: Mapping[str, Any]) -> str:
    ends = end.get("blocks")
    known = ends if isinstance(ends, list) else [b.get("block") for row in rows for b in tables(row.get("blocks"))]
    numbers = sorted({k for k in known if isinstance(k, int)})
    if not numbers:
        return ""
    return f"block {numbers[0]}" if numbers[0] == numbers[-1] else f"blocks {numbers[0]}-{numbers[-1]}"


def _seconds(row: Mapping[str, Any]) -> dict[str, float]:
    """By activity; empty where none is told."""
    found = {name: number(row.get(f"{name}_s")) for name in ACTIVITIES}
    return {name: max(value, 0.0) for name, value in found.items() if value is not None}


def _slices(rows: Sequence[Mapping[str, Any]]) -> Iterator[Slice]:
    """Between two reports, whose seconds run from the start of the process; which starts anew after a resume."""
    before, start = dict.fromkeys(ACTIVITIES, 0.0), 0.0
    for row in rows:
        now = {**dict.fromkeys(ACTIVITIES, 0.0), **_seconds(table(row.get("time")))}
        if sum(now.values()) < sum(before.values()):
            before = dict.fromkeys(ACTIVITIES, 0.0)
        spent = {name: max(now[name] - before[name], 0.0) for name in ACTIVITIES}
        total = sum(spent.values())
        if total > 0:
            yield Slice(start, start + total, {name: seconds / total for name, seconds in spent.items()})
        before, start = now, start + total


def _sum(slices: Sequence[Slice]) -> dict[str, float]:
    return {name: sum((s.end_s - s.start_s) * s.shares[name] for s in slices) for name in ACTIVITIES} if slices else {}


def _curve(rows: Sequence[Mapping[str, Any]], key: str) -> Curve:
    """The mean of a quantity in each epoch."""
    found = {row["epoch"] + 1: number(table(row.get(key)).get("mean")) for row in rows if "epoch" in row}
    return {epoch: value for epoch, value in found.items() if value is not None}
