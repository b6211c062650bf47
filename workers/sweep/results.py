"""The results of a sweep, run after run, as ``sweep.json`` has them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.records.files import write_json
from workers.comparison.summary import arm_of, mean_of, spread_of
from workers.sweep.axes import Cell

__all__ = ["FILE", "Results", "score_of"]

FILE = "sweep.json"

Outcome = Mapping[str, Any]
"""What a run has come to: ``result``, its ``result.json``, or ``error``, why it has none."""


class Results:
    """What the runs of a sweep have come to so far.

    Args:
        keys: that are swept.
        cells: of the grid.
        seeds: of every cell.
        out: the sweep's folder.
    """

    def __init__(self, keys: Sequence[str], cells: Sequence[Cell], seeds: Sequence[int], out: Path) -> None:
        self._cells, self._seeds, self._out = cells, seeds, out
        self._values: dict[str, list[Any]] = {key: [] for key in keys}
        for key, values in self._values.items():
            for cell in cells:
                values += [] if cell.values[key] in values else [cell.values[key]]
        self._outcomes: dict[tuple[str, int], Outcome] = {}

    def folder(self, cell: Cell, seed: int) -> Path:
        """Of one run."""
        return self._out / cell.name / f"seed-{seed}"

    def add(self, cell: Cell, seed: int, outcome: Outcome) -> None:
        """What a run has come to."""
        self._outcomes[cell.name, seed] = outcome

    @property
    def failures(self) -> list[dict[str, Any]]:
        """Runs that have failed."""
        return [
            {"cell": name, "seed": seed, "error": outcome["error"]}
            for (name, seed), outcome in self._outcomes.items() if "error" in outcome
        ]  # fmt: skip

    @property
    def table(self) -> dict[str, Any]:
        """What is in ``sweep.json``.

        ``cells``, each with its ``values``, what :func:`workers.comparison.summary.arm_of` says of its runs, and its
        ``score`` with ``score_std`` and ``scores`` by ``selected_by``; ``best``, the name of the cell that has the best
        of these, among those whose runs have all completed.
        """
        results = [
            [self._outcomes.get((cell.name, seed), {}).get("result") for seed in self._seeds] for cell in self._cells
        ]
        known = [result for runs in results for result in runs if result is not None]
        split, metric = _chosen_by(known)
        rows = [self._row(cell, runs, split, metric) for cell, runs in zip(self._cells, results, strict=True)]
        whole = [row for row in rows if row["score"] is not None and None not in row["scores"]]
        best = max(whole, key=lambda row: row["score"] if metric != "loss" else -row["score"], default=None)
        return {
            "keys": self._values, "seeds": list(self._seeds),
            "selected_by": f"{split} {metric}", "by_validation": split == "validation",
            "best": None if best is None else best["cell"], "cells": rows, "failures": self.failures,
            "is_complete": len(self._outcomes) == len(self._cells) * len(self._seeds) and not self.failures,
        }  # fmt: skip

    def _row(
        self, cell: Cell, runs: Sequence[Mapping[str, Any] | None], split: str, metric: str
    ) -> dict[str, Any]:
        scores = [None if run is None else score_of(run, split, metric) for run in runs]
        return {
            "cell": cell.name, "values": dict(cell.values), "score": mean_of(scores), "score_std": spread_of(scores),
            "scores": scores, **arm_of(runs),
        }  # fmt: skip

    def write(self) -> None:
        """Writes ``sweep.json``, in place of that of fewer runs. Raises OSError where the disk refuses."""
        write_json(self._out / FILE, self.table)


def _chosen_by(results: Sequence[Mapping[str, Any]]) -> tuple[str, str]:
    """By the validation set where every run has one, else by the test set; by accuracy where every run has it."""
    split = "validation" if results and all(score_of(r, "validation", "loss") is not None for r in results) else "test"
    has_accuracy = all(score_of(r, split, "accuracy") is not None for r in results)
    return split, "accuracy" if has_accuracy else "loss"


def score_of(result: Mapping[str, Any], split: str, metric: str) -> float | None:
    """A score of a run's ``result.json``; None where it does not have it.

    Args:
        result: what is in the file.
        split: test, or validation: of the epoch that was chosen by it.
        metric: accuracy or loss.
    """
    table = result if split == "test" else result.get("selection")
    scores = table.get(split) if isinstance(table, Mapping) else None
    value = scores.get(metric) if isinstance(scores, Mapping) else None
    return float(value) if isinstance(value, (int, float)) else None
