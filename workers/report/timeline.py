"""The time line of a run from ``trace.json``: what every stage did, finer than its record tells."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from workers.report.given import number
from workers.report.stages import ACTIVITIES, Slice

__all__ = ["MOST_BYTES", "read_timeline"]

MOST_BYTES = 128 * 2**20
"""Of a trace that is read; a longer one takes too long."""
_BINS = 240
"""Slices of the whole run."""
_Event = tuple[int, str, float, float]
"""Row of the trace, activity, start and end in seconds."""


def read_timeline(folder: Path) -> dict[int, list[Slice]]:
    """For each row of the trace, which is a stage or one of its replicas, slices of the run, equally long.

    Empty where there is no trace, or one that is too long or not ours. The time before the first step is left out: the
    stages are then being built.
    """
    path = folder / "trace.json"
    try:
        if not path.is_file() or path.stat().st_size > MOST_BYTES:
            return {}
        events = list(_events(path))
    except (OSError, ValueError):
        return {}
    begun = [start for _, activity, start, _ in events if activity in ("forward", "learn")]
    if not begun:
        return {}
    first, last = min(begun), max(end for _, _, _, end in events)
    spent: dict[int, list[dict[str, float]]] = {}
    width = max(last - first, 1e-9) / _BINS
    for row, activity, start, end in events:
        bins = spent.setdefault(row, [{} for _ in range(_BINS)])
        _book(bins, activity, (start - first) / width, (end - first) / width)
    return {row: [_slice(i, width, one) for i, one in enumerate(bins)] for row, bins in sorted(spent.items())}


def _events(path: Path) -> Iterator[_Event]:
    """One event stands on each line, so the file need not be held as a whole."""
    with path.open(encoding="utf8") as file:
        for line in file:
            if '"ph": "X"' in line:
                event: Mapping[str, Any] = json.loads(line.rstrip().rstrip(",").removesuffix("]}"))
                start, length, row = number(event.get("ts")), number(event.get("dur")), event.get("pid")
                activity = event.get("name")
                if start is not None and length is not None and isinstance(row, int) and activity in ACTIVITIES:
                    yield row, str(activity), start / 1e6, (start + length) / 1e6


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
