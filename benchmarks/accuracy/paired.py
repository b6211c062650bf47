"""Two figures compared seed by seed: the mean of the differences with its 95 % interval, and what may be said of it.

The interval is that of Student's t for paired samples, ``mean +- t(n - 1) s / sqrt(n)``, with s the standard deviation
of the n differences. Runs of the same seed begin with the same weights and see the same batches, so what the seeds
differ in is not counted as doubt. Each interval stands by itself: of twenty statements about arms that are the same,
one is expected to be wrong.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from statistics import fmean, stdev

from scipy.special import stdtrit

from benchmarks.accuracy.cell import Cell, Figure, PublishedTable
from benchmarks.accuracy.store import Store

__all__ = ["Gain", "gain", "statements"]

@dataclass(frozen=True)
class Gain:
    """By how much one figure is less than another, over the seeds that both have."""

    mean: float
    least: float
    most: float
    """Ends of the 95 % interval; without an end where all differences are the same."""
    seeds: int

    @property
    def shown(self) -> bool:
        """0 lies outside the interval."""
        return self.least > 0.0 or self.most < 0.0

    def said(self, other: str) -> str:
        """In words. Args: other, what is compared with."""
        if not math.isfinite(self.most):
            same = f"the same {_points(self.mean)} points in all {self.seeds} seeds"
            return f"differs from {other} by {same}: no interval"
        about = f"95 % interval {{}} to {{}}, {self.seeds} seeds"
        if not self.shown:
            return f"no difference shown (gain {_points(self.mean)} points, {about.format(*self._ends())})"
        if self.mean > 0.0:
            return f"beats {other} by {_points(self.mean)} points ({about.format(*self._ends())})"
        ends = (_points(-self.most), _points(-self.least))
        return f"trails {other} by {_points(-self.mean)} points ({about.format(*ends)})"

    def _ends(self) -> tuple[str, str]:
        return _points(self.least), _points(self.most)


def _points(value: float) -> str:
    """Two decimals, and no sign of a zero."""
    return f"{round(value, 2) + 0.0:.2f}"


def gain(first: Mapping[int, float], second: Mapping[int, float]) -> Gain | None:
    """By how much the first is less than the second; None with fewer than two seeds in both. Args: values by seed."""
    found = [second[seed] - first[seed] for seed in sorted(first.keys() & second.keys())]
    if len(found) < 2:
        return None
    mean = fmean(found)
    if len(set(found)) == 1:  # of few seeds that a small test set rounds: the spread is not known to be 0
        return Gain(mean, -math.inf, math.inf, len(found))
    margin = float(stdtrit(len(found) - 1, 0.975)) * stdev(found) / math.sqrt(len(found))
    return Gain(mean, mean - margin, mean + margin, len(found))


def statements(table: PublishedTable, store: Store) -> Iterator[str]:
    """A line for each pair of rows of which anything is known, with all that is said of the two."""
    figures = table.figures()
    said: dict[tuple[str, str], list[str]] = {}
    for contrast in table.contrasts:
        (first, _), (second, _) = contrast.first, contrast.second
        values = [_by_seed(table, store, *figures[place]) for place in (contrast.first, contrast.second)]
        found = gain(*values)
        if found is not None:
            said.setdefault((first, second), []).append(f"{contrast.about} {found.said(_short(second, first))}")
    for (first, second), parts in said.items():
        yield f"- {first} against {_short(second, first)}: {'; '.join(parts)}"


def _short(row: str, other: str) -> str:
    """A row's name without the words that it has in front in common with another one's."""
    words, others = row.split(", "), other.split(", ")
    while len(words) > 1 and words[:1] == others[:1]:
        words, others = words[1:], others[1:]
    return ", ".join(words)


def _by_seed(table: PublishedTable, store: Store, cell: Cell, figure: Figure) -> dict[int, float]:
    runs = store.completed(table, cell)
    return {int(run["seed"]): value for run in runs if (value := figure.metric(run)) is not None}
