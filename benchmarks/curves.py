"""Figures of published tables, from the stored runs: losses and errors in training and on the test set, and pictures.

Each point of a curve is the median over the seeds that ran.
"""

import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from benchmarks.accuracy.cell import PublishedTable
from benchmarks.accuracy.page import measured
from benchmarks.accuracy.store import Store
from benchmarks.lines import STYLE, with_lines
from benchmarks.pictures import draw_filters, draw_layouts
from benchmarks.published import TABLES
from workers.report.measured import Curve

__all__ = ["draw", "median_curve"]

_Runs = Sequence[Mapping[str, Any]]
_DEVIATION = "-0.025"
"""End of the names of those cells of LRA's table 1 whose curves are published."""


def draw(results: Path) -> list[Path]:
    """Draws what there are runs of into ``plots`` below ``results``; returns the files."""
    drawn = []
    with matplotlib.rc_context(STYLE):
        for name, figure_of in _FIGURES.items():
            figure = figure_of(TABLES[name], Store(results / "accuracy"))
            if figure is not None:
                drawn.append(results / "plots" / f"accuracy-{name}.svg")
                drawn[-1].parent.mkdir(exist_ok=True)
                figure.savefig(drawn[-1], bbox_inches="tight", metadata={"Date": None}, dpi=150)
    return drawn


def median_curve(runs: _Runs, key: str) -> Curve:
    """The median of a quantity after each epoch in which the output block was evaluated; empty where no run has it."""
    found: Curve = {}
    columns = [run.get(key) or () for run in runs]
    for index in range(max(map(len, columns), default=0)):
        values = [column[index] for column in columns if len(column) > index and column[index] is not None]
        if values:
            found[index + 1] = statistics.median(values)
    return found


def _panels(table: PublishedTable, store: Store, training: str, test: str) -> dict[str, list[tuple[str, Curve]]]:
    """A panel for each cell that ran: in training, and on the test set."""
    panels = {}
    for cell in table.cells:
        runs = store.completed(table, cell)
        curves = [("training", median_curve(runs, training)), ("test", median_curve(runs, test))]
        if all(curve for _, curve in curves):
            panels[cell.name] = curves
    return panels


def _losses(table: PublishedTable, store: Store) -> Figure | None:
    return with_lines(_panels(table, store, "train_losses", "test_losses"), "output loss", logarithmic=True)


def _errors(table: PublishedTable, store: Store) -> Figure | None:
    return with_lines(_panels(table, store, "train_errors", "errors"), "error, %", logarithmic=True)


def _rules(table: PublishedTable, store: Store) -> Figure | None:
    """Figure 4 of Ororbia et al.: a panel for each unit, a line for each rule, from weights of deviation .025."""
    panels: dict[str, list[tuple[str, Curve]]] = {}
    for cell in table.cells:
        rule, _, unit = cell.name.removesuffix(_DEVIATION).rpartition("-")
        if cell.name.endswith(_DEVIATION) and (curve := median_curve(store.completed(table, cell), "errors")):
            panels.setdefault(unit, []).append((rule, curve))
    return with_lines(panels, "test error, %", logarithmic=True)


def _saved(table: PublishedTable, store: Store) -> Figure | None:
    """Error against updates saved, a line for each rule: from parallel training, which saves none, on."""
    lines: dict[str, list[tuple[float, float]]] = {}
    for cell in table.cells:
        saved, error = (measured(cell, figure, store, table) for figure in cell.figures[:2])
        if saved is not None and error is not None and "G4" not in cell.figures[0].row:
            lines.setdefault(cell.figures[0].row.partition(",")[0], []).append((saved, error))
    if not lines:
        return None
    figure = Figure(figsize=(5.0, 3.2))
    axes = figure.subplots()
    for rule, points in lines.items():
        axes.plot(*zip(*sorted(points), strict=True), "o-", ms=3, label=rule)
    axes.set(xlabel="updates saved, %", ylabel="test error, %")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=8)
    return figure


_FIGURES: dict[str, Callable[[PublishedTable, Store], Figure | None]] = {
    "mertens": _losses, "nokland-eidnes-mnist": _errors, "gated-rest": _saved, "lra-table1-mnist": _rules,
    "lra-figure3": draw_filters, "lra-figure6": draw_layouts,
}  # fmt: skip
