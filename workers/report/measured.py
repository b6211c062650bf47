"""Reader of a run's folder: the curves and arrays that figures draw.

Accuracies and credit stand in the record of every run; angles, linear probes, maps and layouts only where ``[measure]``
asked for them.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.records.run_record import read_record

__all__ = ["Arrays", "Curve", "MeasuredRun", "Rows", "block_rows", "curves_of", "measured_run", "read_run"]

Curve = dict[int, float]
"""A value after each of some epochs."""

Arrays = dict[str, Any]
"""The arrays of one file by name."""

Rows = Sequence[tuple[int, Mapping[str, Any]]]
"""Epochs trained so far, and a block's row."""


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
    return measured_run(folder, list(block_rows(read_record(folder / "record.jsonl"))))


def measured_run(folder: Path, recorded: Rows) -> MeasuredRun:
    """The same, where the record has been read. Args: the run's folder; see :func:`block_rows`."""
    measured = list(_measured(folder / "measurements.json"))
    own = curves_of(measured or recorded, "test_accuracy")
    fitted = curves_of(measured, "readout_accuracy")
    return MeasuredRun(
        folder.resolve().name, curves_of(measured, "angle_deg"), dict(sorted({**fitted, **own}.items())),
        frozenset(fitted) - frozenset(own), _depth(recorded), _of_output(recorded), curves_of(measured, "update"),
        _arrays(folder / "measurements" / "maps.npz"), _arrays(folder / "measurements" / "tsne.npz"),
    )  # fmt: skip


def block_rows(record: Sequence[Mapping[str, Any]]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Epochs trained so far and a block's row, from the stages' reports. Args: record, see :func:`read_record`."""
    for row in record:
        if row["event"] == "epoch":
            for block in row["blocks"]:
                yield row["epoch"] + 1, block


def _measured(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """The same, from measurements."""
    if path.exists():
        for row in json.loads(path.read_text(encoding="utf8"))["epochs"]:
            for block in row["blocks"]:
                yield row["epoch"], block


def curves_of(rows: Rows, key: str) -> dict[int, Curve]:
    """Curve of ``key`` for every block that has values of it; what is no number is left out."""
    found: dict[int, Curve] = {}
    for epoch, block in rows:
        if isinstance(block.get(key), (int, float)):
            found.setdefault(block["block"], {})[epoch] = block[key]
    return dict(sorted(found.items()))


def _of_output(rows: Rows) -> dict[str, Curve]:
    """Curves of the last block."""
    last = max((block["block"] for _, block in rows), default=0)
    names = ("train_loss", "test_loss", "train_accuracy", "test_accuracy")
    return {name: curves_of(rows, name).get(last, {}) for name in names}


def _depth(rows: Rows) -> Curve:
    """Credit summed over blocks."""
    total: Curve = {}
    for credit in curves_of(rows, "credit").values():
        for epoch, share in credit.items():
            total[epoch] = total.get(epoch, 0.0) + share
    return dict(sorted(total.items()))


def _arrays(path: Path) -> Arrays | None:
    """A file of arrays, if it is there."""
    if not path.exists():
        return None
    with np.load(path) as found:
        return dict(found)
