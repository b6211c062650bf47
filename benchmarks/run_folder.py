"""Reader of a run's folder: the curves and arrays that the figures draw.

Accuracies and credit stand in the record of every run; angles, linear probes, maps and layouts only where ``[measure]``
asked for them.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["Curve", "MeasuredRun", "read_run"]

Curve = dict[int, float]
"""A value after each of some epochs."""

Arrays = dict[str, Any]
"""The arrays of one file by name."""


@dataclass(frozen=True)
class MeasuredRun:
    """Curves and arrays of one run."""

    name: str
    """Name of the run's folder."""
    angles: dict[int, Curve]
    """By block, in degrees, epoch 0 being the initial weights; empty without measurements."""
    accuracies: dict[int, Curve]
    """By block, on the test set: of its own decoder, else of a linear probe."""
    fitted: frozenset[int]
    """Blocks whose accuracy is that of a linear probe."""
    depth: Curve
    """Mean number of blocks updated for a sample; empty where the rule does not count it."""
    output: dict[str, Curve]
    """Of the output block: ``train_loss``, ``test_loss``, ``train_accuracy``, ``test_accuracy``, as far as recorded."""
    updates: dict[int, Curve]
    """By block: how far its weights have moved since the measurement before, relative; empty without measurements."""
    maps: Arrays | None
    """``epochs``, ``x_axis``, ``y_axis``, ``values`` (epochs, blocks, rows, columns), ``levels`` (epochs, blocks)."""
    tsne: Arrays | None
    """``epochs``, ``blocks``, ``points`` (epochs, blocks, samples, 2), ``labels``."""


def read_run(folder: Path) -> MeasuredRun:
    """Reads a run's folder.

    Raises:
        FileNotFoundError: it is no run's.
    """
    if not (folder / "record.jsonl").exists():
        raise FileNotFoundError(
            f"this is not the folder of a run (given: {folder}, expected: record.jsonl in it). Name what --out named."
        )
    recorded = list(_recorded(folder / "record.jsonl"))
    measured = list(_measured(folder / "measurements.json"))
    own = _curves(measured or recorded, "test_accuracy")
    fitted = _curves(measured, "readout_accuracy")
    return MeasuredRun(
        folder.resolve().name, _curves(measured, "angle_deg"), dict(sorted({**fitted, **own}.items())),
        frozenset(fitted) - frozenset(own), _depth(recorded), _of_output(recorded), _curves(measured, "update"),
        _arrays(folder / "measurements" / "maps.npz"), _arrays(folder / "measurements" / "tsne.npz"),
    )  # fmt: skip


def _recorded(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Epochs trained so far and a block's row, from the reports of the stages."""
    text = path.read_text(encoding="utf8")
    for line in text[: text.rfind("\n") + 1].splitlines():  # the last row of a run that was killed may break off
        row = json.loads(line)
        if row["event"] == "epoch":
            for block in row["blocks"]:
                yield row["epoch"] + 1, block


def _measured(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """The same, from measurements."""
    if path.exists():
        for row in json.loads(path.read_text(encoding="utf8"))["epochs"]:
            for block in row["blocks"]:
                yield row["epoch"], block


def _curves(rows: list[tuple[int, Mapping[str, Any]]], key: str) -> dict[int, Curve]:
    """Curve of ``key`` for every block that has values of it."""
    found: dict[int, Curve] = {}
    for epoch, block in rows:
        if block.get(key) is not None:
            found.setdefault(block["block"], {})[epoch] = block[key]
    return dict(sorted(found.items()))


def _of_output(rows: list[tuple[int, Mapping[str, Any]]]) -> dict[str, Curve]:
    """Curves of the last block."""
    last = max((block["block"] for _, block in rows), default=0)
    names = ("train_loss", "test_loss", "train_accuracy", "test_accuracy")
    return {name: _curves(rows, name).get(last, {}) for name in names}


def _depth(rows: list[tuple[int, Mapping[str, Any]]]) -> Curve:
    """Credit summed over blocks."""
    total: Curve = {}
    for credit in _curves(rows, "credit").values():
        for epoch, share in credit.items():
            total[epoch] = total.get(epoch, 0.0) + share
    return dict(sorted(total.items()))


def _arrays(path: Path) -> Arrays | None:
    """A file of arrays, if it is there."""
    if not path.exists():
        return None
    with np.load(path) as found:
        return dict(found)
