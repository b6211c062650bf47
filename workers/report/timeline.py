"""The time line of a run from ``trace.json``: what every stage did, finer than its record tells."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workers.report.given import number
from workers.report.stages import ACTIVITIES, Slice

__all__ = ["MOST_BYTES", "Timeline", "read_timeline"]

MOST_BYTES = 128 * 2**20
"""Of a trace that is read; a longer one takes too long."""
_BINS = 240
"""Slices of the whole run."""
_PASSES = 6
"""Forward passes of the first stage in the closer look."""
_MOST_SLICES = 200
"""Of a stage in the closer look."""


@dataclass(frozen=True)
class Timeline:
    """Slices of the time of each process, by its place among those of the run."""

    whole: Mapping[int, Sequence[Slice]]
    """The whole run in slices that are equally long."""
    closer: Mapping[int, Sequence[Slice]]
    """Some forward passes in its middle, a slice for each activity."""


@dataclass(frozen=True)
class _Event:
    row: int
    activity: str
    start_s: float
    end_s: float


def read_timeline(folder: Path) -> Timeline:
    """The time line of the run in ``folder``, from its first forward pass on: before, its stages are being built.

    Empty where there is no trace, or one that is too long or not ours.
    """
    path = folder / "trace.json"
    try:
        known = path.is_file() and path.stat().st_size <= MOST_BYTES
        events = list(_events(path)) if known else []
    except (OSError, ValueError):
        events = []
    passes = sorted((e for e in events if e.activity == "forward"), key=lambda e: e.start_s)
    if not passes:
        return Timeline({}, {})
    first = passes[0].start_s
    row = min(e.row for e in passes)
    return Timeline(_binned(events, first), _closer(events, [e.start_s for e in passes if e.row == row]))


def _events(path: Path) -> Iterator[_Event]:
    """One event stands on each line, so the file need not be held as a whole."""
    with path.open(encoding="utf8") as file:
        for line in file:
            if '"ph": "X"' in line:
                event: Mapping[str, Any] = json.loads(line.rstrip().rstrip(","))
                start, length, row = number(event.get("ts")), number(event.get("dur")), event.get("pid")
                activity = event.get("name")
                if start is not None and length is not None and isinstance(row, int) and activity in ACTIVITIES:
                    yield _Event(row - 1, str(activity), start / 1e6, (start + length) / 1e6)


def _binned(events: Sequence[_Event], first: float) -> dict[int, list[Slice]]:
    width = max(max(e.end_s for e in events) - first, 1e-9) / _BINS
    spent: dict[int, list[dict[str, float]]] = {}
    for e in events:
        bins = spent.setdefault(e.row, [{} for _ in range(_BINS)])
        _book(bins, e.activity, (e.start_s - first) / width, (e.end_s - first) / width)
    return {row: [_slice(i, width, one) for i, one in enumerate(bins)] for row, bins in sorted(spent.items())}


def _book(bins: list[dict[str, float]], activity: str, start: float, end: float) -> None:
    """Adds an interval, in widths of a bin, to the bins that it lies in."""
    start, end = max(start, 0.0), min(end, float(len(bins)))
    place = int(start)
    while start < end and place < len(bins):
        edge = min(end, place + 1.0)
        bins[place][activity] = bins[place].get(activity, 0.0) + edge - start
        start, place = edge, place + 1


def _slice(place: int, width: float, spent: Mapping[str, float]) -> Slice:
    """Shares of the bin; of one in which nothing is known, none."""
    total = max(sum(spent.values()), 1.0)
    return Slice(place * width, (place + 1) * width, {name: seconds / total for name, seconds in spent.items()})


def _closer(events: Sequence[_Event], passes: Sequence[float]) -> dict[int, list[Slice]]:
    """Args: events; the starts of the first stage's forward passes, in order, in seconds."""
    middle = max(len(passes) // 2 - _PASSES // 2, 0)
    if len(passes) < 2:
        return {}
    start, end = passes[middle], passes[min(middle + _PASSES, len(passes) - 1)]
    found: dict[int, list[Slice]] = {}
    for e in sorted(events, key=lambda e: e.start_s):
        if e.end_s > start and e.start_s < end:
            left, right = max(e.start_s, start) - start, min(e.end_s, end) - start
            found.setdefault(e.row, []).append(Slice(left, right, {e.activity: 1.0}))
    return found if all(len(slices) <= _MOST_SLICES for slices in found.values()) else {}
