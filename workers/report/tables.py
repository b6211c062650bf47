"""Tables of a report: the runs side by side, what differs between their configs, and where they ran."""

import shlex
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pipeline.records.number_text import duration, format_bytes, grouped, percent
from workers.report.given import flat, number, table, text
from workers.report.learning import is_share, quantity_title
from workers.report.parts import Cell, Section, Table
from workers.report.runs import ReportRun

__all__ = ["config_section", "environment_section", "errors_of", "summary"]

Column = tuple[str, Callable[[ReportRun], float | None], Callable[[float | None], str], int]
"""Title; a run's value; the value as text; 1 where more is better, -1 where less is, 0 where neither."""

_ENVIRONMENT = (
    "python", "platform", "commit", "cpu", "cores", "memory_bytes", "devices", "cuda", "versions", "threads_per_stage",
)  # fmt: skip


def summary(runs: Sequence[ReportRun]) -> tuple[Table, str]:
    """A row for each run, its figures first; and what is said of all, where words are the same for several runs.

    The best of each column is marked where runs of one data set are compared.
    """
    columns = _columns(runs)
    values = [[value_of(run) for _, value_of, _, _ in columns] for run in runs]
    marks = len(runs) > 1 and len({repr(_section(run, "dataset")) for run in runs}) == 1
    best = [_best([row[k] for row in values], columns[k][3]) if marks else None for k in range(len(columns))]
    words = [_words(run) for run in runs]
    known = list(dict.fromkeys(title for one in words for title in one))
    told = [title for title in known if len(runs) == 1 or len({one.get(title) for one in words}) > 1]
    rows = [
        [
            Cell(run.name),
            *(Cell(columns[k][2](v), True, v is not None and v == best[k]) for k, v in enumerate(row)),
            *(Cell(one.get(title, "-"), differs=title == "status" and run.status != "completed") for title in told),
        ]
        for run, row, one in zip(runs, values, words, strict=True)
    ]  # fmt: skip
    same = ", ".join(f"{title} {words[0][title]}" for title in known if title not in told)
    titles = ["run", *(column[0] for column in columns), *told]
    return Table(titles, rows, list(range(len(runs)))), f"All: {same}." if same else ""


def _section(run: ReportRun, name: str) -> dict[str, Any]:
    return {key: value for key, value in run.config.items() if key.startswith(f"{name}.")}


def _words(run: ReportRun) -> dict[str, str]:
    keys = {"mode": "schedule.mode", "rule": "rule.name", "model": "model.name", "data set": "dataset.name"}
    sizes = [run.result.get(key, run.header.get(key)) for key in ("num_stages", "threads_per_stage")]
    named = {title: text(run.config.get(key)) for title, key in keys.items()}
    by = table(run.result.get("selection")).get("by")
    chosen = {"weights chosen by": text(by)} if by is not None else {}
    return {"status": run.status, **named, "stages x threads": " x ".join(map(text, sizes)), **chosen}


def _columns(runs: Sequence[ReportRun]) -> list[Column]:
    """Scores that some run has, then how it went."""
    scores = list(dict.fromkeys(name for run in runs for name in run.test))
    found: list[Column] = [
        (quantity_title(f"test_{name}"), _score(name), *((percent, 1) if is_share(name) else (grouped, -1)))
        for name in scores
    ]
    return [
        *found, ("epochs", lambda run: run.epochs, lambda v: "-" if v is None else f"{v:.0f}", 0),
        ("samples/s", lambda run: number(run.result.get("train_samples_per_s")), grouped, 1),
        ("time", lambda run: number(run.result.get("wall_s")), lambda v: "-" if v is None else duration(v), 0),
        ("peak memory", _peak, format_bytes, -1),
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
    """The best value; None where all are the same, or neither more nor less is better."""
    known = {value for value in values if value is not None}
    return (max(known) if sign > 0 else min(known)) if len(known) > 1 and sign else None


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
    """The keys that differ, a row for each run, or for each key where there are more of them; then all others."""
    differing = [key for key in keys if len({repr(one.get(key)) for one in found}) > 1]
    same = [key for key in keys if key not in differing]
    tables = []
    if differing:
        tables.append(_differences(runs, differing, found))
    if same:
        rows = [[Cell(key), Cell(_shown(key, found[0].get(key)))] for key in same]
        heading = title if len(runs) == 1 else f"{title}: the same for all"
        tables.append(Table(["key", "value"], rows, title=heading, is_folded=is_folded))
    return tables


def _differences(runs: Sequence[ReportRun], keys: Sequence[str], found: Sequence[Mapping[str, Any]]) -> Table:
    """Values that are not the usual one of their key stand out."""
    usual = {key: Counter(repr(one.get(key)) for one in found).most_common(1)[0] for key in keys}

    def cell(one: Mapping[str, Any], key: str) -> Cell:
        value, times = usual[key]
        return Cell(text(one.get(key)), differs=times > 1 and repr(one.get(key)) != value)

    if len(keys) > max(len(runs), 6):
        rows = [[Cell(key), *(cell(one, key) for one in found)] for key in keys]
        return Table(["key", *(run.name for run in runs)], rows, title="What differs")
    rows = [[Cell(run.name), *(cell(one, key) for key in keys)] for run, one in zip(runs, found, strict=True)]
    return Table(["run", *keys], rows, list(range(len(runs))), "What differs")


def _shown(key: str, value: Any) -> str:
    size = number(value)
    return format_bytes(size) if key == "memory_bytes" and size is not None else text(value)


def errors_of(runs: Sequence[ReportRun]) -> list[tuple[str, str]]:
    """Runs that did not end well, and what is known of it."""
    return [(run.name, f"{run.status}: {run.error}" if run.error else run.status)
            for run in runs if run.status != "completed"]  # fmt: skip
