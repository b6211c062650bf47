"""The runs that a report is about: everything it says of one, read from its folder."""

import json
import tomllib
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import ConfigError, one_line
from pipeline.records.run_record import read_record
from workers.report.given import flat, number, table
from workers.report.measured import Curve, MeasuredRun, block_rows, curves_of, measured_run
from workers.report.stages import StageStory, stories_of
from workers.report.timeline import Timeline, read_timeline

__all__ = ["SCORES", "ReportRun", "is_run", "read_report_run"]

SCORES = ("train_loss", "test_loss", "validation_loss", "test_accuracy", "validation_accuracy", "train_accuracy")
"""Of blocks, by epoch, as the record has them; in the order of a page, before those that a task has of its own."""


@dataclass(frozen=True)
class ReportRun:
    """One run of a report."""

    name: str
    """That tells it from the others."""
    folder: Path
    status: str
    """completed, failed, interrupted; unfinished where it goes on or was killed."""
    error: str | None
    result: Mapping[str, Any]
    header: Mapping[str, Any]
    """First row of the record: command, versions, hardware."""
    config: Mapping[str, Any]
    """By ``section.key``."""
    measured: MeasuredRun
    scores: Mapping[str, Mapping[int, Curve]]
    """By quantity, then by block."""
    gates: Mapping[str, Mapping[int, Curve]]
    """By ``gate``, ``drift``, ``axes_least``, ``axes_median``, ``axes_most``, then by block; empty without gates."""
    stages: Sequence[StageStory]
    timeline: Timeline
    """Of its trace, where there is one."""

    @property
    def last_block(self) -> int | None:
        """Number of the output block; None where no epoch has ended."""
        blocks = [block for curves in self.scores.values() for block in curves]
        count = number(self.result.get("num_blocks"))
        return int(count) - 1 if count else max(blocks, default=None)

    def of_output(self, quantity: str) -> Curve:
        """A quantity of the output block."""
        last = self.last_block
        return dict(self.scores.get(quantity, {}).get(last, {})) if last is not None else {}

    @property
    def test(self) -> Mapping[str, float]:
        """What stands under ``test`` in its result; of a run that has not ended, the newest scores of its record."""
        given = table(self.result.get("test"))
        found = {name: value for name, item in given.items() if (value := number(item)) is not None}
        if found:
            return found
        curves = {q.removeprefix("test_"): self.of_output(q) for q in self.scores if q.startswith("test_")}
        return {name: list(curve.values())[-1] for name, curve in curves.items() if curve}

    @property
    def epochs(self) -> int:
        """Epochs trained."""
        ended = number(self.result.get("epochs"))
        return int(ended) if ended is not None else max((len(story.slices) for story in self.stages), default=0)


def is_run(folder: Path) -> bool:
    """A run's record is in it."""
    try:
        return (folder / "record.jsonl").is_file()
    except (OSError, ValueError):  # it must not be read, or its name is too long
        return False


def read_report_run(folder: Path, name: str) -> ReportRun:
    """Reads a run's folder, of one that has ended or not.

    Raises:
        ConfigError: it is none, or what is in it cannot be read as a run's.
    """
    if not is_run(folder):
        raise ConfigError(
            f"this is not the folder of a run (given: {folder}, expected: record.jsonl in it, or compare.json, or "
            "sweep.json). Name what --out named."
        )
    try:
        return _read(folder, name)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, zipfile.BadZipFile) as error:
        raise ConfigError(
            f"the folder cannot be read as that of a run (given: {folder}; {type(error).__name__}: {one_line(error)}). "
            "Name another one, or repeat the run."
        ) from None


def _read(folder: Path, name: str) -> ReportRun:
    record = read_record(folder / "record.jsonl")
    header = next((row for row in record if row.get("event") == "header"), {})
    result = _result(folder, record)
    rows = list(block_rows(record))
    return ReportRun(
        name, folder, str(result.get("status", "unfinished")), result.get("error"), result, header,
        _config(folder, header), measured_run(folder, rows), _scores(rows), _gates(rows),
        stories_of(record, result), read_timeline(folder),
    )  # fmt: skip


def _result(folder: Path, record: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """``result.json``, else what the record says of the end: the disk may have refused the file."""
    try:
        return table(json.loads((folder / "result.json").read_text(encoding="utf8")))
    except FileNotFoundError:
        ends = [row for row in record if row.get("event") in ("result", "failure", "resume", "restart")]
        return ends[-1] if ends and "status" in ends[-1] else {}


def _config(folder: Path, header: Mapping[str, Any]) -> dict[str, Any]:
    """By ``section.key``: of ``config.toml``, else of the record's header."""
    try:
        return flat(tomllib.loads((folder / "config.toml").read_text(encoding="utf8")))
    except FileNotFoundError:
        return flat(table(header.get("config")))


def _scores(rows: Sequence[tuple[int, Mapping[str, Any]]]) -> dict[str, dict[int, Curve]]:
    """Curves of every quantity that some block has, those of its task among them."""
    found = {quantity: curves_of(rows, quantity) for quantity in SCORES}
    for split in ("test", "validation"):
        inside = [(epoch, {**table(row.get(f"{split}_metrics")), "block": row.get("block")}) for epoch, row in rows]
        names = {name: None for _, row in inside for name in row if name != "block"}
        found |= {f"{split}_{name}": curves_of(inside, name) for name in names}
    return {quantity: curves for quantity, curves in found.items() if curves}


def _gates(rows: Sequence[tuple[int, Mapping[str, Any]]]) -> dict[str, dict[int, Curve]]:
    """Curves of what blocks tell of their gates; of the axes' parts the three that a row has."""
    found = {name: curves_of(rows, name) for name in ("gate", "drift")}
    for place, name in enumerate(("axes_least", "axes_median", "axes_most")):
        axes = [(e, {"block": row.get("block"), name: row["axes"][place]}) for e, row in rows if "axes" in row]
        found[name] = curves_of(axes, name)
    return {name: curves for name, curves in found.items() if curves}
