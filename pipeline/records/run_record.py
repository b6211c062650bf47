"""The record of a run: JSON lines as things happen, and ``result.json`` at the end."""

import json
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, Literal

from pipeline.numerics.digest import combine
from pipeline.records.files import jsonable
from pipeline.records.reports import BlockScores, GateRow, StageResult
from pipeline.records.row_file import RowFile
from pipeline.schedules.plan import BlockMode
from pipeline.schedules.schedule import EpochResult

__all__ = ["Recorder", "gate_rows", "odd_twins", "read_record", "result_table"]


class Recorder:
    """Appends rows to ``record.jsonl``; see :class:`pipeline.records.row_file.RowFile`.

    Raises:
        OSError: the file cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        _heal(path)
        self._file = RowFile(path)
        self.listener: Callable[[str], None] | None = None
        """Is given each row, as it was written."""

    @property
    def spare(self) -> Path | None:
        """The file for rows that the disk has not taken in the end; see :meth:`rescue_to`."""
        return self._file.spare

    def rescue_to(self, spare: Path) -> None:
        """Sets :attr:`spare`."""
        self._file.spare = spare

    def write(self, row: Mapping[str, Any]) -> None:
        """One row; the time of writing is added."""
        line = json.dumps(jsonable({"time_s": round(time.time(), 3), **row}), allow_nan=False)
        self._file.write(line)
        if self.listener is not None:
            self.listener(line)

    @property
    def num_bytes(self) -> int:
        """Length of the record."""
        return self._file.num_bytes

    def close(self) -> None:
        """Ends the record."""
        self._file.close()


def read_record(path: Path) -> list[dict[str, Any]]:
    """The rows of a record, without those of stretches that a resume or a restart has made void.

    Raises:
        OSError: it cannot be read.
    """
    rows: list[tuple[int, dict[str, Any]]] = []
    start = 0
    for line in path.read_bytes().splitlines(keepends=True):
        if line.endswith(b"\n"):  # the last row of a run that was killed may break off
            try:
                row = json.loads(line)
            except ValueError:  # torn by a loss of power
                row = {"event": "unreadable"}
            if "record_bytes" in row:
                rows = [(place, kept) for place, kept in rows if "fixed" in kept or not _is_void(place, kept, row)]
            rows.append((start, row))
        start += len(line)
    return [row for _, row in rows]


def _is_void(place: int, kept: Mapping[str, Any], resume: Mapping[str, Any]) -> bool:
    """A row tells of what comes behind the cut from which the run went on, also where it was written before the
    snapshot was complete."""
    is_later = kept.get("event") == "epoch" and kept["epoch"] >= resume["epoch"]
    return place >= resume["record_bytes"] or is_later


def _heal(path: Path) -> None:
    """Cuts off a last row that broke off when the run was killed."""
    if path.exists() and (content := path.read_bytes()) and not content.endswith(b"\n"):
        os.truncate(path, content.rfind(b"\n") + 1)


def result_table(
    about: Mapping[str, Any],
    stage_results: Sequence[StageResult],
    history: Sequence[EpochResult],
    last_scores: Mapping[int, BlockScores],
    num_train: int,
    wall_s: float,
    restarts: int = 0,
    skipped: Mapping[int, int] = {},
    gates: Mapping[int, GateRow] = {},
) -> dict[str, Any]:
    """``result.json`` of a completed run; its names are fixed, scripts read them.

    Args:
        about: mode, rule, model, dataset, transport, device, threads_per_stage, seed.
        stage_results: from every stage, in order.
        history: the finished epochs.
        last_scores: the newest row of every block that was evaluated.
        num_train: samples of the training set.
        wall_s: from the moment every stage was ready to the last report, evaluation included; of all parts of a run
            that was taken up again, up to the cuts from which it was.
        restarts: times that it was.
        skipped: batches left out, of the blocks that did.
        gates: how the gates of blocks stood at last.
    """
    digests = {k: d for result in stage_results for k, d in result["digests"].items()}
    owner = {k: r["row"]["stage"] for r in stage_results for k in r["digests"]}
    num_blocks = len(digests)
    rows = [r["row"] for r in stage_results]
    samples = len(history) * num_train
    return {
        "status": "completed", **about, "num_stages": len({row["stage"] for row in rows}), "num_blocks": num_blocks,
        "epochs": len(history), "steps": max(r["steps"] for r in stage_results), "wall_s": wall_s,
        "train_samples_per_s": samples / wall_s if wall_s > 0 else 0.0,
        "test": {
            "accuracy": _last(last_scores, num_blocks - 1, "test_accuracy"),
            "loss": _last(last_scores, num_blocks - 1, "test_loss"), **_metrics(last_scores, num_blocks - 1),
        },
        "blocks": [
            {
                "block": k, "stage": owner[k], **_block(k, history, last_scores),
                **({"skipped_batches": skipped[k]} if k in skipped else {}), **gates.get(k, {}),
            }
            for k in range(num_blocks)
        ],
        "stages": rows,
        "weights_sha256": combine([digests[k] for k in sorted(digests)]), "restarts": restarts,
    }  # fmt: skip


def odd_twins(stage_results: Sequence[StageResult]) -> list[tuple[int, int]]:
    """Stages, and blocks of them, whose weights are not the same in all replicas of the stage."""
    digests = {k: d for result in stage_results for k, d in result["digests"].items()}
    return sorted({
        (result["row"]["stage"], k)
        for result in stage_results for k, digest in result.get("twins", []) if digests[k] != digest
    })  # fmt: skip


def _block(block: int, history: Sequence[EpochResult], last_scores: Mapping[int, BlockScores]) -> dict[str, Any]:
    """What a block has learned, and in how many epochs."""
    metrics = _metrics(last_scores, block)
    return {
        "test_accuracy": _last(last_scores, block, "test_accuracy"),
        "epochs_trained": sum(e.plan.modes[block] is BlockMode.TRAIN for e in history),
        "frozen_at_epoch": _frozen_at(history, block), **({"test_metrics": metrics} if metrics else {}),
    }  # fmt: skip


def _frozen_at(history: Sequence[EpochResult], block: int) -> int | None:
    """The first epoch in which the block was frozen, or None."""
    return next((e.plan.epoch for e in history if e.plan.modes[block] is BlockMode.FROZEN), None)


def _metrics(scores: Mapping[int, BlockScores], block: int) -> dict[str, float]:
    """Metrics of the task beside accuracy and loss, by a block's newest scores."""
    return scores[block].get("test_metrics", {}) if block in scores else {}


def gate_rows(scores: Iterable[Iterable[BlockScores]]) -> dict[int, GateRow]:
    """How the gate of each block stood in the newest epoch in which the block learned, and the drifts of the run.

    Args:
        scores: rows of all blocks, epoch by epoch; without gates nothing is found.
    """
    found: dict[int, GateRow] = {}
    drifts: dict[int, list[float]] = {}
    for row in (row for rows in scores for row in rows if "gate" in row):
        newest: GateRow = {"gate": row["gate"]}
        if "drift" in row:
            newest["drift"] = row["drift"]
            own = drifts.setdefault(row["block"], [])
            own.append(row["drift"])
            newest["drifts"] = [min(own), median(own), max(own)]
        if "axes" in row:
            newest["axes"] = row["axes"]
        if "rests_since" in row:
            newest["rests_since"] = row["rests_since"]
        found[row["block"]] = newest
    return found


def _last(scores: Mapping[int, BlockScores], block: int, name: Literal["test_accuracy", "test_loss"]) -> float | None:
    """A block's newest score; None of a block that was never evaluated."""
    return scores[block][name] if block in scores else None
