"""The figures of measured runs; needs matplotlib.

Lines are labelled where they end and classes where they lie, so that no figure needs a legend. Colours are those of
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
from matplotlib.ticker import MaxNLocator
from sklearn.isotonic import isotonic_regression

from benchmarks.run_folder import Curve, MeasuredRun

__all__ = ["apart", "draw"]

_STYLE: dict[Any, Any] = {
    "svg.hashsalt": "onward", "svg.fonttype": "none",  # the same bytes for the same figures, and text as text
    "font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.axisbelow": True,
    "axes.titlesize": 9, "axes.titlelocation": "left",
}  # fmt: skip
_RUNS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")  # Okabe and Ito
_CLASSES = ("#332288", "#88ccee", "#44aa99", "#117733", "#999933", "#ddcc77", "#cc6677", "#882255", "#aa4499",
            "#666666")  # Tol, muted  # fmt: skip
_MARKERS = "os^Dv"
_MOST_ROWS = 6
"""Epochs of a run that are shown as maps; more are left out evenly."""
_LABEL_GAP = 0.065
"""Least distance between two labels, as a share of the height of the axes."""


def draw(runs: Sequence[MeasuredRun], out: Path, kind: str) -> list[Path]:
    """Draws what the runs have measured into ``out``, as ``svg`` or ``png``; returns the files."""
    drawn = []
    with matplotlib.rc_context(_STYLE):
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
    return _panels(measured, lambda r: r.angles, "angle to backprop, degrees", lambda r, k: f"block {k}", finish)


def _accuracies(runs: Sequence[MeasuredRun]) -> Figure | None:
    """A panel for each run, a line for each block."""

    def percent(run: MeasuredRun) -> dict[int, Curve]:
        return {k: {e: 100 * a for e, a in curve.items()} for k, curve in run.accuracies.items()}

    def label(run: MeasuredRun, block: int) -> str:
        return f"block {block}, linear probe" if block in run.fitted else f"block {block}"

    return _panels([r for r in runs if r.accuracies], percent, "test accuracy, %", label, lambda axes, run: None)


def _panels(
    runs: Sequence[MeasuredRun],
    curves_of: Callable[[MeasuredRun], Mapping[int, Curve]],
    what: str,
    label: Callable[[MeasuredRun, int], str],
    finish: Callable[[Axes, MeasuredRun], None],
) -> Figure | None:
    """A panel for each run with a line for each block over epochs; colours go from the lowest block to the highest."""
    if not runs:
        return None
    figure = Figure(figsize=(4.2 * len(runs), 3.0), layout="constrained")
    for axes, run in zip(figure.subplots(1, len(runs), squeeze=False)[0], runs, strict=True):
        curves = curves_of(run)
        shades = matplotlib.colormaps["viridis"](np.linspace(0.0, 0.88, len(curves)))
        for (block, curve), colour in zip(curves.items(), shades, strict=True):
            # Filled or hollow markers tell a decoder of the block's own from a linear probe without any colour.
            hollow = block in run.fitted and what.startswith("test")
            _line(axes, curve, colour, _MARKERS[block % len(_MARKERS)], hollow)
        axes.set(xlabel="epochs trained", ylabel=what, title=run.name)
        finish(axes, run)
        _label_ends(axes, [(c, label(run, k), s) for (k, c), s in zip(curves.items(), shades, strict=True)])
    return figure


def _depths(runs: Sequence[MeasuredRun]) -> Figure | None:
    """A line for each run."""
    counted = [run for run in runs if run.depth]
    if not counted:
        return None
    figure = Figure(figsize=(4.6, 3.0), layout="constrained")
    axes = figure.subplots()
    colours = [_RUNS[i % len(_RUNS)] for i in range(len(counted))]
    for run, colour in zip(counted, colours, strict=True):
        _line(axes, run.depth, colour)
    axes.set(xlabel="epochs trained", ylabel="depth of credit, blocks per sample")
    axes.set_ylim(0, None)
    _label_ends(axes, [(run.depth, run.name, colour) for run, colour in zip(counted, colours, strict=True)])
    return figure


def _line(axes: Axes, curve: Curve, colour: Any, marker: str = "o", hollow: bool = False) -> None:
    """A marker for each epoch where there are few."""
    axes.plot(
        list(curve), list(curve.values()), marker=marker if len(curve) <= 25 else "", ms=3.5, lw=1.4, color=colour,
        clip_on=False, markerfacecolor="white" if hollow else colour,
    )  # fmt: skip
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.25)


def _label_ends(axes: Axes, lines: Sequence[tuple[Curve, str, Any]]) -> None:
    """Names every line at the right edge, at the height of its end as far as there is room."""
    low, high = axes.get_ylim()
    ends = [(list(curve.values())[-1] - low) / (high - low) for curve, _, _ in lines]
    for (_, text, colour), end, place in zip(lines, ends, apart(ends, _LABEL_GAP), strict=True):
        axes.annotate(
            text, (1.0, end), (1.06, place), xycoords="axes fraction", textcoords="axes fraction",
            va="center", fontsize=8 if len(lines) <= 1 / _LABEL_GAP else 5, color=_dark(colour), annotation_clip=False,
            arrowprops={
                "arrowstyle": "-", "color": colour, "lw": 0.6, "shrinkA": 1, "shrinkB": 0, "relpos": (0.0, 0.5),
            },
        )  # fmt: skip


def apart(heights: Sequence[float], gap: float) -> list[float]:
    """Heights in [0, 1], as close to the given ones as they can be and ``gap`` apart, in the same order.

    Least squares: with ``gap`` times its rank taken off each height, the constraint is that they rise.
    """
    count = len(heights)
    gap = min(gap, 1.0 / max(count - 1, 1))
    order = np.argsort(heights, kind="stable")
    ranks = gap * np.arange(count)
    placed = isotonic_regression(np.asarray(heights)[order] - ranks, y_min=0.0, y_max=1.0 - ranks[-1]) + ranks
    found = np.empty(count)
    found[order] = placed
    return [float(height) for height in found]


def _dark(colour: Any) -> Any:
    """The colour as dark as text has to be."""
    red, green, blue = matplotlib.colors.to_rgb(colour)
    light = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    share = min(1.0, 0.45 / light) if light > 0 else 1.0
    return red * share, green * share, blue * share


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
                _scatter(axes, arrays["points"][i, place], arrays["labels"])
                name = f"{run.name}, " if len(runs) > 1 else ""
                axes.set_title(f"{name}block {arrays['blocks'][place]}, epoch {arrays['epochs'][i]}", fontsize=8)
            else:
                axes.set_axis_off()
    return figure


def _scatter(axes: Axes, points: Any, labels: Any) -> None:
    """The samples of one layout."""
    for label in np.unique(labels):
        chosen, colour = points[labels == label], _CLASSES[int(label) % len(_CLASSES)]
        axes.scatter(chosen[:, 0], chosen[:, 1], s=5, color=colour, lw=0)
        across, up = (float(v) for v in np.median(chosen, axis=0))
        box = {"facecolor": "white", "edgecolor": colour, "alpha": 0.85, "boxstyle": "round,pad=0.15", "lw": 0.8}
        axes.text(across, up, str(label), fontsize=8, ha="center", va="center", color=_dark(colour), bbox=box)
    axes.set_xticks([])
    axes.set_yticks([])


_FIGURES: dict[str, Callable[[Sequence[MeasuredRun]], Figure | None]] = {
    "angles": _angles,
    "accuracies": _accuracies,
    "depth": _depths,
    "maps": _maps,
    "tsne": _layouts,
}
