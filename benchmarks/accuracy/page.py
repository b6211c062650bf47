"""A table as Markdown: measured beside published, and whether that is accepted."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from benchmarks.accuracy.cell import Band, Cell, Check, Figure, Found, Place, PublishedTable
from benchmarks.accuracy.paired import statements
from benchmarks.accuracy.store import Store
from benchmarks.wording import seconds
from benchmarks.wording import table as markdown

__all__ = ["Absent", "measured", "outside", "render"]

Absent = Callable[[Cell], str | None]
"""Reason that a cell cannot be run here; None where it can."""


def measured(cell: Cell, figure: Figure, store: Store, table: PublishedTable) -> float | None:
    """A figure over the seeds that ran, their median unless it says otherwise; None where none did, or none has it."""
    values = [value for run in store.completed(table, cell) if (value := figure.metric(run)) is not None]
    return figure.over(values) if values else None


def outside(table: PublishedTable, store: Store) -> list[Place]:
    """The figures that were measured and lie outside their band."""
    found = []
    for place, (cell, figure) in table.figures().items():
        value = measured(cell, figure, store, table)
        if value is not None and not _accepts(figure, value, store):
            found.append(place)
    return found


def _accepts(figure: Figure, value: float, store: Store) -> bool:
    """True if a figure is within its band or has none; of a quick run every figure is accepted."""
    return store.quick or figure.band is None or value in figure.band


def render(table: PublishedTable, store: Store, absent: Absent = lambda cell: None) -> str:
    """The table, what it shows, and how it was run.

    Args:
        table: what was published.
        store: what was run.
        absent: why a cell cannot be run; pages that are kept leave it out, for it depends on the machine.
    """
    remarks = [*([] if store.quick else [*_checks(table, store), *statements(table, store)]),
               *_reasons(table, store)]  # fmt: skip
    found = Found(lambda cell: store.completed(table, cell), _counted(table, store))
    more = [part(found) for part in table.parts]
    parts = [_about(table), _grid(table, store, absent), "\n".join(remarks), *more, _how(table, store)]
    return "\n\n".join(part for part in parts if part)


def _counted(table: PublishedTable, store: Store) -> Mapping[str, Mapping[str, Any]]:
    """What was counted of the table's rows without a run; its file stands beside the folder of runs."""
    path = store.folder.parent / f"arithmetic-{table.name}.json"
    if not path.exists():
        return {}
    found: Mapping[str, Mapping[str, Any]] = json.loads(path.read_text(encoding="utf8"))["arms"]
    return found


def _about(table: PublishedTable) -> str:
    """Title, source and note."""
    return f"**{table.title}.** Source: {table.source}.{' ' if table.note else ''}{table.note}"


def _grid(table: PublishedTable, store: Store, absent: Absent) -> str:
    figures, columns = table.figures(), table.columns()
    rows = []
    for row in table.rows():
        found = (figures.get((row, column)) for column in columns)
        rows.append([row, *("" if f is None else _entry(*f, table, store, absent) for f in found)])
    return markdown(["", *columns], rows)


def _entry(cell: Cell, figure: Figure, table: PublishedTable, store: Store, absent: Absent) -> str:
    """``2.81 (2.75; at most 3.6)``: measured, published, accepted."""
    value = measured(cell, figure, store, table)
    text = _state(cell, table, store, absent) if value is None else f"{value:.4g}"
    if value is not None and not _accepts(figure, value, store):
        text = f"**{text}, outside**"
    known = [] if figure.published is None else [f"{figure.published:g}"]
    known += [] if figure.band is None else [str(figure.band)]
    return f"{text} ({'; '.join(known)})" if known else text


def _state(cell: Cell, table: PublishedTable, store: Store, absent: Absent) -> str:
    """Reason for a missing figure."""
    runs = store.runs(table, cell)
    if any(run["status"] == "completed" for run in runs):
        return "-"
    if runs:
        return "failed"
    return absent(cell) or ("needs a GPU" if cell.device == "cuda" else "not run")


def _checks(table: PublishedTable, store: Store) -> Iterator[str]:
    """A line for each check of which anything was measured."""
    for check in table.checks:
        found = differences(check, table, store)
        if not found:
            continue
        if check.band is None:
            yield f"- {check.about}: {_listing(found, len(check.pairs))}"
        else:
            yield f"- {check.about}: {_verdict(found, len(check.pairs), check.band)}"


def _listing(found: Sequence[tuple[tuple[Place, Place], float]], count: int) -> str:
    """The differences, each of several with the place that it is of: its row, where all are of one column."""
    if count == 1:
        return f"{found[0][1]:.3g}"
    one_column = len({first[1] for (first, _), _ in found}) == 1
    return "; ".join(f"{first[0] if one_column else _spell(first)}: {value:.3g}" for (first, _), value in found)


def _verdict(found: Sequence[tuple[tuple[Place, Place], float]], count: int, band: Band) -> str:
    """Whether the differences are within the band; open as long as not all ``count`` of them could be made."""
    wrong = [(pair, value) for pair, value in found if value not in band]
    if wrong:
        said = "; ".join(f"{_spell(a)} - {_spell(b)}: {value:.3g}" for (a, b), value in wrong[:4])
        return f"**does not hold** ({said}; accepted: {band})"
    verdict = "holds"
    if count > 1:
        verdict = f"holds, {count} of {count} comparisons"
    if len(found) < count:
        verdict = f"open, {len(found)} of {count} comparisons made"
    return f"{verdict} ({found[0][1]:.3g}; accepted: {band})" if len(found) == 1 else verdict


def differences(check: Check, table: PublishedTable, store: Store) -> list[tuple[tuple[Place, Place], float]]:
    """Differences, first less second, of the pairs of which both figures were measured."""
    figures = table.figures()
    found = []
    for pair in check.pairs:
        values = [measured(*figures[place], store, table) for place in pair]
        if values[0] is not None and values[1] is not None:
            found.append((pair, values[0] - values[1]))
    return found


def _spell(place: Place) -> str:
    return ", ".join(place)


def _reasons(table: PublishedTable, store: Store) -> Iterator[str]:
    """Known reasons for figures outside their bands, and errors of failed runs."""
    figures = table.figures()
    by_reason: dict[str, list[str]] = {}
    for place in outside(table, store):
        if figures[place][1].reason:
            by_reason.setdefault(figures[place][1].reason, []).append(_spell(place))
    for reason, places in by_reason.items():
        yield f"- Outside ({'; '.join(places)}): {reason}"
    for cell in table.cells:
        for run in store.runs(table, cell):
            if run["status"] == "failed":
                yield f"- Failed ({cell.name}, seed {run['seed']}): {_one_line(run['error'])}"


def _one_line(text: str) -> str:
    return " ".join(text.split()).replace("|", "/")[:300]


def _how(table: PublishedTable, store: Store) -> str:
    """The command, and what the runs that count have in common."""
    runs = [run for cell in table.cells for run in store.completed(table, cell)]
    command = f"Command: `python -m benchmarks.accuracy --table {table.name}{' --quick' if store.quick else ''}`"
    if not runs:
        return f"{command}; not run yet."
    seeds = max(len(store.completed(table, cell)) for cell in table.cells)
    total = sum(float(run["wall_s"]) for run in runs)
    facts = [
        f"{len(runs)} run{'s' if len(runs) > 1 else ''} of {_listed(runs, lambda run: str(run['epochs']))} epochs",
        f"{seeds} seed{'s at most' if seeds > 1 else ''}", f"{seconds(total)} in all",
        f"on {_listed(runs, _device)}", f"commit {_listed(runs, lambda run: str(run['commit']))}",
    ]  # fmt: skip
    return f"{command}; {', '.join(facts)}."


def _device(run: Mapping[str, Any]) -> str:
    return run["devices"][0] if run["device"] == "cuda" else f"{run['threads']} thread of {run['cpu']}"


def _listed(runs: Sequence[Mapping[str, Any]], spell: Callable[[Mapping[str, Any]], str]) -> str:
    """Distinct values of ``spell`` over the runs, numbers in their order."""
    found = sorted(dict.fromkeys(map(spell, runs)), key=lambda text: (not text.isdigit(), text.zfill(9)))
    return " or ".join([", ".join(found[:-1]), found[-1]] if len(found) > 1 else found)
