"""What a run's record says, put together: rows of stages become epochs, and epochs become named numbers."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

__all__ = ["Event", "LogRow", "LoggedRun", "StepNews", "events", "log_rows", "numbers_of"]

StepNews: TypeAlias = dict[str, Any]
"""What a stage says of itself inside an epoch."""
Event: TypeAlias = tuple[Literal["step", "epoch", "end"], dict[str, Any]]
"""Something that a hook or a logger is told, and the table with its numbers."""

_NO_MEASURES = ("stage", "epoch", "process", "replica", "checked", "block")
_HEADLINE = ("train_loss", "test_loss", "test_accuracy")


@dataclass(frozen=True)
class LoggedRun:
    """The run that a logger writes about."""

    out: Path
    """Its folder."""
    config: Mapping[str, Any]
    """Nested tables, every default included."""
    num_blocks: int
    num_processes: int
    """That report: one for each stage, or for each of its replicas."""


@dataclass(frozen=True, slots=True)
class LogRow:
    """What a logger writes at once."""

    event: Literal["epoch", "result", "failure"]
    epoch: int
    """Counted from 0; behind the last one, how many there were."""
    numbers: Mapping[str, float] = field(default_factory=dict)
    """By name: ``test_accuracy`` of the network, ``test_accuracy/block0``, ``forward_s/stage0``."""


class _Epochs:
    """Rows of stages, until every process has told of the epoch."""

    def __init__(self, run: LoggedRun) -> None:
        self._run = run
        self._rows: dict[int, list[dict[str, Any]]] = {}
        self._next = 0

    def add(self, row: dict[str, Any]) -> dict[str, Any] | None:
        """The epoch that this row completes, if it does; told again behind a restart, it is the same and left out."""
        rows = self._rows.setdefault(row["epoch"], [])
        rows.append(row)
        if len(rows) < self._run.num_processes:
            return None
        del self._rows[row["epoch"]]
        if row["epoch"] < self._next:
            return None
        self._next = row["epoch"] + 1
        blocks = sorted((block for r in rows for block in r["blocks"]), key=lambda block: block["block"])
        output = blocks[-1] if blocks and blocks[-1]["block"] == self._run.num_blocks - 1 else {}
        stages = sorted(rows, key=lambda r: (r["stage"], r.get("replica", 0)))
        return {
            "epoch": row["epoch"], **{name: output.get(name) for name in _HEADLINE},
            **{name: value for name, value in output.items() if name.startswith("validation_")}, "blocks": blocks,
            "stages": [{k: v for k, v in r.items() if k not in ("event", "time_s", "blocks")} for r in stages],
        }  # fmt: skip

    def forget(self) -> None:
        """Stages are started anew: what they have said of epochs that are not complete is void."""
        self._rows.clear()


def events(items: Iterable[str | StepNews], run: LoggedRun) -> Iterator[Event]:
    """What is told, in order.

    Args:
        items: rows of the record, JSON, and news inside of epochs.
        run: whose they are.
    """
    epochs = _Epochs(run)
    for item in items:
        if not isinstance(item, str):
            yield "step", item
            continue
        row = json.loads(item)
        event = row.get("event")
        if event == "epoch":
            if (whole := epochs.add(row)) is not None:
                yield "epoch", whole
        elif event == "restart":
            epochs.forget()
        elif event in ("finished", "failure"):
            yield "end", {k: v for k, v in row.items() if k not in ("event", "time_s", "lost")}


def log_rows(items: Iterable[str | StepNews], run: LoggedRun) -> Iterator[LogRow]:
    """The same for a logger: an epoch at a time, and one last row."""
    done = 0
    for event, table in events(items, run):
        if event == "epoch":
            done = table["epoch"] + 1
            yield LogRow("epoch", table["epoch"], numbers_of(table))
        elif event == "end" and table["status"] == "completed":
            yield LogRow("result", table["epochs"], {**_plain(table, ""), **_plain(table["test"], "test_")})
        elif event == "end":
            yield LogRow("failure", done)


def numbers_of(epoch: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of an epoch by name, those left out that were not measured in it."""
    found = _plain(epoch, "")
    for block in epoch["blocks"]:
        place = f"/block{block['block']}"
        found |= _plain(block, "", place) | _plain(block.get("test_metrics", {}), "", place)
        found |= _plain(block.get("validation_metrics", {}), "validation_", place)
    for stage in epoch["stages"]:
        place = f"stage{stage['stage']}" + (f".{stage['replica']}" if "replica" in stage else "")
        means = {name: stage[name]["mean"] for name in ("staleness", "fill") if name in stage}
        found |= _plain({**stage, **stage["time"], **means}, "", f"/{place}")
    return found


def _plain(table: Mapping[str, Any], prefix: str, place: str = "") -> dict[str, float]:
    """What is a measured number in a table, with what stands before its name and behind it: ``/block0``."""
    return {
        f"{prefix}{name}{place}": value for name, value in table.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool) and name not in _NO_MEASURES
    }  # fmt: skip
