"""Tables of a report: the runs side by side, what differs between their configs, and where they ran."""

import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pipeline.records.number_text import duration, format_bytes, grouped, percent
from workers.report.given import flat, number, text
from workers.report.parts import Cell, Section, Table
from workers.report.runs import ReportRun

__all__ = ["config_section", "environment_section", "errors_of", "summary"]

Column = tuple[str, Callable[[ReportRun], float | None], Callable[[float | None], str], int]
"""Title; a run's value; the value as text; 1 where more is better, -1 where less is, 0 where neither."""

_ENVIRONMENT = (
    "python", "platform", "commit", "cpu", "cores", "memory_bytes", "devices", "cuda", "versions", "threads_per_stage",
)  # fmt: skip


def summary(runs: Sequence[ReportRun]) -> Table:
    """A row for each run; the best of each column is marked where there are several."""
    columns = _columns(runs)
    values = [[value_of(run) for _, value_of, _, _ in columns] for run in runs]
    best = [_best([row[k] for row in values], columns[k][3]) for k in range(len(columns))]
    rows = [
        [
            Cell(run.name), Cell(run.status, differs=run.status != "completed"), *map(Cell, _words(run)),
            *(Cell(columns[k][2](row[k]), True, len(runs) > 1 and row[k] is not None and row[k] == best[k])
              for k in range(len(columns))),
        ]
        for run, row in zip(runs, values, strict=True)
    ]  # fmt: skip
    titles = ["run", "status", "mode", "rule", "model", "data set", "stages x threads", *(c[0] for c in columns)]
    return Table(titles, rows, list(range(len(runs))))


def _words(run: ReportRun) -> list[str]:
    names = [run.config.get(key) for key in ("schedule.mode", "rule.name", "model.name", "dataset.name")]
    keys = ("num_stages", "threads_per_stage")
    sizes = [run.result.get(key, run.header.get(key)) for key in keys]
    return [*map(text, names), " x ".join(map(text, sizes))]


def _columns(runs: Sequence[ReportRun]) -> list[Column]:
    """Scores that some run has, then how it went."""
    scores = list(dict.fromkeys(name for run in runs for name in run.test))
    found: list[Column] = [
        (f"test {name.replace('_', ' ')}" + (", %" if name == "accuracy" else ""), _score(name),
         percent if name == "accuracy" else grouped, 1 if name.endswith("accuracy") or name == "top5" else -1)
        for name in scores
    ]  # fmt: skip
    return [
        *found, ("epochs", lambda run: run.epochs, lambda v: "-" if v is None else f"{v:.0f}", 0),
        ("samples/s", lambda run: number(run.result.get("train_samples_per_s")), grouped, 1),
        ("time", lambda run: number(run.result.get("wall_s")), lambda v: "-" if v is None else duration(v), 0),
        ("peak memory", _peak, lambda v: "-" if v is None else format_bytes(v), -1),
    ]  # fmt: skip


def _score(name: str) -> Callable[[ReportRun], float | None]:
    return lambda run: run.test.get(name)


def _peak(run: ReportRun) -> float | None:
    """Of all processes at their peaks; stages that share a process count once."""
    rows = {row.get("pid"): row for row in run.result.get("stages") or () if isinstance(row, Mapping)}
    peaks = [number(row.get("peak_device_bytes")) or number(row.get("peak_rss_bytes")) for row in rows.values()]
    known = [peak for peak in peaks if peak is not None]
    return sum(known) if known else None


def _best(values: Sequence[float | None], sign: int) -> float | None:
    known = [value for value in values if value is not None]
    return (max(known) if sign > 0 else min(known)) if known and sign else None


def config_section(runs: Sequence[ReportRun]) -> Section:
    """What differs between the runs, then every key."""
    keys = list(dict.fromkeys(key for run in runs for key in run.config))
    return Section("config", "Config", tables=_side_by_side(runs, keys, [run.config for run in runs], "All keys"))


def environment_section(runs: Sequence[ReportRun]) -> Section:
    """Commands, versions, hardware."""
    found = [_environment(run) for run in runs]
    keys = list(dict.fromkeys(key for one in found for key in one))
    commands = [[Cell(run.name), Cell(_command(run)), Cell(_begun(run)), Cell(str(run.folder))] for run in runs]
    table_of_commands = Table(["run", "command", "begun", "folder"], commands, list(range(len(runs))))
    rest = _side_by_side(runs, keys, found, "Versions and hardware", is_folded=False)
    return Section("environment", "Environment and command", tables=[table_of_commands, *rest])


def _environment(run: ReportRun) -> dict[str, Any]:
    return flat({key: run.header[key] for key in _ENVIRONMENT if key in run.header})


def _command(run: ReportRun) -> str:
    words = run.header.get("command")
    return shlex.join(map(str, words)) if isinstance(words, list) else "-"


def _begun(run: ReportRun) -> str:
    seconds = number(run.header.get("time_s"))
    try:
        return "-" if seconds is None else time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seconds))
    except (OverflowError, ValueError, OSError):  # no year that there will be
        return "-"


def _side_by_side(
    runs: Sequence[ReportRun], keys: Sequence[str], found: Sequence[Mapping[str, Any]], title: str, *,
    is_folded: bool = True,
) -> list[Table]:  # fmt: skip
    """A row for each run with the keys that differ; then all that are the same, each in a row."""
    differing = [key for key in keys if len({repr(one.get(key)) for one in found}) > 1]
    same = [key for key in keys if key not in differing]
    tables = []
    if differing:
        rows = [[Cell(run.name), *(Cell(text(one.get(key)), differs=True) for key in differing)]
                for run, one in zip(runs, found, strict=True)]  # fmt: skip
        tables.append(Table(["run", *differing], rows, list(range(len(runs))), "What differs"))
    if same:
        rows = [[Cell(key), Cell(_shown(key, found[0].get(key)))] for key in same]
        heading = title if len(runs) == 1 else f"{title} that are the same" if title == "All keys" else title
        tables.append(Table(["key", "value"], rows, title=heading, is_folded=is_folded))
    return tables


def _shown(key: str, value: Any) -> str:
    size = number(value)
    return format_bytes(size) if key == "memory_bytes" and size is not None else text(value)


def errors_of(runs: Sequence[ReportRun]) -> list[tuple[str, str]]:
    """Runs that did not end well, and what is known of it."""
    return [(run.name, f"{run.status}: {run.error}" if run.error else run.status)
            for run in runs if run.status != "completed"]  # fmt: skip
