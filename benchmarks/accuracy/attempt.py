"""One run of a cell: ``python launch.py`` in a process of its own, and the summary of its folder."""

import json
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.accuracy.by_block import course
from benchmarks.accuracy.cell import Cell
from pipeline.config.toml_text import to_toml
from workers.sweep.child import Child

__all__ = ["Attempt", "summary"]

ROOT = Path(__file__).resolve().parent.parent.parent
_SHOWN = 300
"""Samples of a layout whose places are kept: the first ones, which were drawn at random."""


class Attempt:
    """A run that has been started.

    Args:
        cell: what to run.
        seed: of the run.
        data_root: where data sets are.
        quick: with the cell's quick config.
    """

    def __init__(self, cell: Cell, seed: int, data_root: Path, quick: bool = False) -> None:
        self.cell, self.seed = cell, seed
        self._folder = tempfile.TemporaryDirectory(prefix="onward-accuracy-")
        self._out = Path(self._folder.name) / "run"
        config = Path(self._folder.name) / f"{cell.name}.toml"
        config.write_text(to_toml(cell.nested(seed, quick)), encoding="utf8")
        program = ["-m", *cell.program] if cell.program else [str(ROOT / "launch.py")]
        command = [sys.executable, *program, "--config", str(config), "--quiet",
                   "--out", str(self._out), "--data-root", str(data_root)]  # fmt: skip
        self._child = Child(command, Path(self._folder.name) / "stderr", ROOT)

    def poll(self) -> dict[str, Any] | None:
        """Result of the run once it has ended or its time is over; None while it goes on."""
        status, elapsed = self._child.poll(), self._child.elapsed_s
        if status is None and elapsed < self.cell.limit_s:
            return None
        self._child.end()
        try:
            if status is None:
                return self._failed(f"it was ended after {self.cell.limit_s:g} s (limit_s of the cell)")
            if status != 0:
                return self._failed(self._child.said() or f"exit status {status}")
            return {"seed": self.seed, "status": "completed", "wall_s": round(elapsed, 2), 
                    **summary(self._out, by_block=self.cell.by_block)}  # fmt: skip
        except (OSError, ValueError, KeyError) as error:
            return self._failed(f"what it left cannot be read ({type(error).__name__}: {error})")
        finally:
            self._folder.cleanup()

    def tell(self) -> None:
        """Tells the run to end, and does not wait."""
        self._child.tell()

    def stop(self) -> None:
        """Ends the run and its stages; nothing is kept."""
        self._child.end()
        self._folder.cleanup()

    def _failed(self, error: str) -> dict[str, Any]:
        wall_s = round(self._child.elapsed_s, 2)
        return {"seed": self.seed, "status": "failed", "wall_s": wall_s, "error": error}


def summary(out: Path, *, by_block: bool = False) -> dict[str, Any]:
    """Summary of a run's folder, as the store keeps it.

    Args:
        out: the run's folder.
        by_block: with the course of every block, see :func:`benchmarks.accuracy.by_block.course`.

    Raises:
        OSError, ValueError, KeyError: it is not the folder of a run that ended well.
    """
    result = json.loads((out / "result.json").read_text(encoding="utf8"))
    rows = [json.loads(line) for line in (out / "record.jsonl").read_text(encoding="utf8").splitlines()]
    header = next(row for row in rows if row["event"] == "header")
    epochs = [row for row in rows if row["event"] == "epoch"]
    selected = [row for row in rows if row["event"] == "test"]  # one row, where there is a validation set
    scored = [*epochs, *selected]
    output = list(_output_rows(scored, result["num_blocks"] - 1))
    return {
        "errors": [error for entry in output if (error := _error(entry["test_accuracy"])) is not None],
        "test_losses": [_short(entry["test_loss"]) for entry in output],
        "train_losses": [_short(entry.get("train_loss")) for entry in output],
        "block_losses": _block_losses(scored, result["num_blocks"]),
        "selected": bool(selected),
        "train_errors": [_error(entry.get("train_accuracy")) for entry in output],
        **_after_steps(out / "after_steps.json"), **_filters(out / "filters.json"), **_phases(out / "phases.json"),
        **(course(epochs, result["num_blocks"]) if by_block else {}),
        "credit": _credit(epochs), **_measured(out / "measurements.json"),
        **_layout(out / "measurements" / "tsne.npz"),
        "epochs": result["epochs"], "steps": result["steps"], "train_s": round(result["wall_s"], 2),
        "threads": result["threads_per_stage"], "device": result["device"],
        **{name: header[name] for name in ("commit", "versions", "python", "cpu", "cores", "devices")},
    }  # fmt: skip


def _output_rows(epochs: Sequence[Mapping[str, Any]], block: int) -> Iterator[Mapping[str, Any]]:
    """The output block's entries of those rows in which it was evaluated."""
    for row in epochs:
        for entry in row["blocks"]:
            if entry["block"] == block and entry["test_loss"] is not None:
                yield entry


def _block_losses(epochs: Sequence[Mapping[str, Any]], num_blocks: int) -> list[float | None]:
    """Loss of each block's own scores on the test set when that was last evaluated; None where it has none."""
    found: list[float | None] = [None] * num_blocks
    for row in epochs:
        for entry in row["blocks"]:
            if entry["test_loss"] is not None:
                found[entry["block"]] = _short(entry["test_loss"])
    return found


def _credit(epochs: Sequence[Mapping[str, Any]]) -> list[list[float | None]] | None:
    """Share of the samples that each block was updated for, by epoch; None where no rule counts them."""
    found = [[_short(b["credit"]) for b in row["blocks"] if b.get("credit") is not None] for row in epochs]
    return found if any(found) else None


def _measured(path: Path) -> dict[str, list[dict[str, Any]] | None]:
    """Angles of each measured epoch, of all blocks together and of each, the blocks' relative updates since the one
    before, and their accuracies by the vote of neighbours in those epochs that have layouts; None where none was
    measured."""
    if not path.exists():
        return {"angles": None, "updates": None, "neighbours": None}
    rows = json.loads(path.read_text(encoding="utf8"))["epochs"]

    def blocks(row: Mapping[str, Any], name: str) -> list[float | None]:
        return [_short(block[name]) for block in row["blocks"]]

    near = [{"epoch": row["epoch"], "blocks": blocks(row, "neighbours_accuracy")} for row in rows]
    return {
        "angles": [
            {"epoch": row["epoch"], "all": _short(row["angle_deg"]), "blocks": blocks(row, "angle_deg")}
            for row in rows
        ],
        "updates": [{"epoch": row["epoch"], "blocks": blocks(row, "update")} for row in rows[1:]],
        "neighbours": [row for row in near if any(value is not None for value in row["blocks"])] or None,
    }


def _error(accuracy: float | None) -> float | None:
    """In percent."""
    return None if accuracy is None else round(100 * (1 - accuracy), 4)


def _after_steps(path: Path) -> dict[str, Any]:
    """Errors by the number of steps, where the cell's program has found them."""
    return {"step_errors": json.loads(path.read_text(encoding="utf8"))} if path.exists() else {}


def _filters(path: Path) -> dict[str, Any]:
    """Filters and their total variation, where the cell's program has found them."""
    if not path.exists():
        return {}
    found = json.loads(path.read_text(encoding="utf8"))
    return {"filters": {**found, "before": _short(found["before"]), "after": _short(found["after"])}}


def _layout(path: Path) -> dict[str, Any]:
    """Where some samples lie in the plane after the last epoch, a digit behind the point; by block, (samples, 2)."""
    if not path.exists():
        return {}
    with np.load(path) as found:
        points, labels = found["points"][-1, :, :_SHOWN], found["labels"][:_SHOWN]
        places = [[[round(float(v), 1) for v in point] for point in block] for block in points]
        return {"layout": {"blocks": found["blocks"].tolist(), "labels": labels.tolist(), "points": places}}


def _phases(path: Path) -> dict[str, Any]:
    """Errors by phase and split, where the cell's program has made two runs."""
    return {"phases": json.loads(path.read_text(encoding="utf8"))} if path.exists() else {}


def _short(value: float | None) -> float | None:
    """Six digits."""
    return None if value is None else float(f"{value:.6g}")
