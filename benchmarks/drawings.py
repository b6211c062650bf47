"""The figures of measured runs; needs matplotlib.

Lines are labelled where they end and classes where they lie: see :mod:`benchmarks.lines`. Colours are those of
Okabe and Ito and of Tol, and of the map viridis, which people with a colour vision deficiency tell apart; blocks
differ in their markers as well.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.lines import RUNS, STYLE, dark, label_ends, line, panels, with_lines
from workers.report.measured import Curve, MeasuredRun

__all__ = ["draw", "scatter"]

_CLASSES = ("#332288", "#88ccee", "#44aa99", "#117733", "#999933", "#ddcc77", "#cc6677", "#882255", "#aa4499",
            "#666666")  # Tol, muted  # fmt: skip
_MOST_ROWS = 6
"""Epochs of a run that are shown as maps; more are left out evenly."""


def draw(runs: Sequence[MeasuredRun], out: Path, kind: str) -> list[Path]:
    """Draws what the runs have measured into ``out``, as ``svg`` or ``png``; returns the files."""
    drawn = []
    with matplotlib.rc_context(STYLE):
        for name, figure_of in _FIGURES.items():
            figure = figure_of(runs)
            if figure is not None:
                out.mkdir(parents=True, exist_ok=True)
                drawn.append(out / f"{name}.{kind}")
                metadata = {"Date": None} if kind == "svg" else None
                figure.savefig(drawn[-1], bbox_inches="tight", dpi=150, metadata=metadata)
    return drawn


def _angles(runs: Sequence[MeasuredRun]) -> Figure | None:
    """A panel for each run, a line for each block, and the right angle, beyond which a step goes uphill."""

    def finish(axes: Axes, run: MeasuredRun) -> None:
        most = max(a for curve in run.angles.values() for a in curve.values())
        axes.axhline(90, color="#888888", lw=0.8, ls="--")
        axes.set_ylim(-2, max(95.0, most + 3))
        axes.set_yticks(range(0, int(max(95.0, most + 3)), 30))

    measured = [run for run in runs if run.angles]
    return panels(measured, lambda r: r.angles, "angle to backprop, degrees", lambda r, k: f"block {k}", finish)


def _accuracies(runs: Sequence[MeasuredRun]) -> Figure | None:
    """A panel for each run, a line for each block."""

    def percent(run: MeasuredRun) -> dict[int, Curve]:
        return {k: {e: 100 * a for e, a in curve.items()} for k, curve in run.accuracies.items()}

    def label(run: MeasuredRun, block: int) -> str:
        return f"block {block}, linear probe" if block in run.fitted else f"block {block}"

    return panels([r for r in runs if r.accuracies], percent, "test accuracy, %", label, lambda axes, run: None)


def _losses(runs: Sequence[MeasuredRun]) -> Figure | None:
    """A panel for each run: the output loss on the training samples, before each step, and on the test set."""
    pairs = {r.name: [("training", r.output["train_loss"]), ("test", r.output["test_loss"])] for r in runs}
    positive = all(v > 0 for some in pairs.values() for _, curve in some for v in curve.values())
    return with_lines(pairs, "output loss", logarithmic=positive)


def _errors(runs: Sequence[MeasuredRun]) -> Figure | None:
    """A panel for each run: the output's error on the training samples, in training mode, and on the test set."""

    def percent(curve: Curve) -> Curve:
        return {epoch: 100 * (1 - share) for epoch, share in curve.items()}

    pairs = {
        r.name: [("training", percent(r.output["train_accuracy"])), ("test", percent(r.output["test_accuracy"]))]
        for r in runs if r.output["train_accuracy"]
    }  # fmt: skip
    return with_lines(pairs, "error, %")


def _updates(runs: Sequence[MeasuredRun]) -> Figure | None:
    """A panel for each run, a line for each block; frozen blocks, which move by 0, end where they froze."""
    moved = {r.name: {k: {e: u for e, u in c.items() if u > 0} for k, c in r.updates.items()} for r in runs}
    return panels(
        [r for r in runs if any(moved[r.name].values())],
        lambda r: {k: c for k, c in moved[r.name].items() if c}, "relative update of the weights",
        lambda r, k: f"block {k}", lambda axes, run: axes.set_yscale("log"),
    )  # fmt: skip


def _depths(runs: Sequence[MeasuredRun]) -> Figure | None:
    """A line for each run."""
    counted = [run for run in runs if run.depth]
    if not counted:
        return None
    figure = Figure(figsize=(4.6, 3.0), layout="constrained")
    axes = figure.subplots()
    colours = [RUNS[i % len(RUNS)] for i in range(len(counted))]
    for run, colour in zip(counted, colours, strict=True):
        line(axes, run.depth, colour)
    axes.set(xlabel="epochs trained", ylabel="depth of credit, blocks per sample")
    axes.set_ylim(0, None)
    label_ends(axes, [(run.depth, run.name, colour) for run, colour in zip(counted, colours, strict=True)])
    return figure


def _maps(runs: Sequence[MeasuredRun]) -> Figure | None:
    """A row for each run and epoch, a column for each block; the line is the boundary."""
    rows = [(run, run.maps, i) for run in runs if run.maps is not None for i in _spread(len(run.maps["epochs"]))]
    if not rows:
        return None
    columns = max(arrays["values"].shape[1] for _, arrays, _ in rows)
    figure = Figure(figsize=(1.5 * columns + 0.9, 1.5 * len(rows) + 0.3), layout="constrained")
    grid = figure.subplots(len(rows), columns, squeeze=False)
    for cells, (run, arrays, i) in zip(grid, rows, strict=True):
        for block, axes in enumerate(cells):
            if block < arrays["values"].shape[1]:
                _map(axes, arrays, i, block)
            else:
                axes.set_axis_off()
        title = f"{run.name}\n" if len(runs) > 1 else ""
        cells[0].set_ylabel(f"{title}epoch {arrays['epochs'][i]}", fontsize=8)
    for block, axes in enumerate(grid[0]):
        axes.set_title(f"block {block}")
    return figure


def _map(axes: Axes, arrays: Mapping[str, Any], index: int, block: int) -> None:
    """One map, its colours symmetric about the boundary's value."""
    x, y, values = arrays["x_axis"], arrays["y_axis"], arrays["values"][index, block]
    level = float(arrays["levels"][index, block])
    level = float(values.mean()) if np.isnan(level) else level
    reach = max(float(np.abs(values - level).max()), 1e-12)
    axes.imshow(
        values, extent=(x[0], x[-1], y[0], y[-1]), origin="lower", cmap="PuOr", vmin=level - reach,
        vmax=level + reach, aspect="auto",
    )  # fmt: skip
    if values.min() < level < values.max():
        axes.contour(x, y, values, levels=[level], colors="black", linewidths=1.0, linestyles="solid")
    axes.set_xticks([x[0], x[-1]], [f"{x[0]:g}", f"{x[-1]:g}"], fontsize=6)
    axes.set_yticks([y[0], y[-1]], [f"{y[0]:g}", f"{y[-1]:g}"], fontsize=6)


def _spread(count: int) -> list[int]:
    """At most so many positions, the first and the last among them, evenly."""
    return sorted({round(i) for i in np.linspace(0, count - 1, min(count, _MOST_ROWS))})


def _layouts(runs: Sequence[MeasuredRun]) -> Figure | None:
    """A row for each run and epoch, a column for each block; every class has its number in its midst."""
    rows = [(run, run.tsne, i) for run in runs if run.tsne is not None for i in range(len(run.tsne["epochs"]))]
    if not rows:
        return None
    columns = max(len(arrays["blocks"]) for _, arrays, _ in rows)
    figure = Figure(figsize=(2.4 * columns + 0.4, 2.4 * len(rows)), layout="constrained")
    for cells, (run, arrays, i) in zip(figure.subplots(len(rows), columns, squeeze=False), rows, strict=True):
        for place, axes in enumerate(cells):
            if place < len(arrays["blocks"]):
                scatter(axes, arrays["points"][i, place], arrays["labels"])
                name = f"{run.name}, " if len(runs) > 1 else ""
                axes.set_title(f"{name}block {arrays['blocks'][place]}, epoch {arrays['epochs'][i]}", fontsize=8)
            else:
                axes.set_axis_off()
    return figure


def scatter(axes: Axes, points: Any, labels: Any) -> None:
    """Draws the samples of one layout, each class with its number in its midst. Args: (samples, 2), (samples,)."""
    for label in np.unique(labels):
        chosen, colour = points[labels == label], _CLASSES[int(label) % len(_CLASSES)]
        axes.scatter(chosen[:, 0], chosen[:, 1], s=5, color=colour, lw=0)
        across, up = (float(v) for v in np.median(chosen, axis=0))
        box = {"facecolor": "white", "edgecolor": colour, "alpha": 0.85, "boxstyle": "round,pad=0.15", "lw": 0.8}
        axes.text(across, up, str(label), fontsize=8, ha="center", va="center", color=dark(colour), bbox=box)
    axes.set_xticks([])
    axes.set_yticks([])


_FIGURES: dict[str, Callable[[Sequence[MeasuredRun]], Figure | None]] = {
    "angles": _angles,
    "accuracies": _accuracies,
    "losses": _losses,
    "errors": _errors,
    "updates": _updates,
    "depth": _depths,
    "maps": _maps,
    "tsne": _layouts,
}
