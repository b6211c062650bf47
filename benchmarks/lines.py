"""Lines over epochs, labelled where they end, so that no figure needs a legend; needs matplotlib."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from sklearn.isotonic import isotonic_regression

from workers.report.measured import Curve, MeasuredRun

__all__ = ["RUNS", "STYLE", "apart", "dark", "label_ends", "line", "panels", "with_lines"]

STYLE: dict[Any, Any] = {
    "svg.hashsalt": "onward", "svg.fonttype": "none",  # the same bytes for the same figures, and text as text
    "font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.axisbelow": True,
    "axes.titlesize": 9, "axes.titlelocation": "left",
}  # fmt: skip
RUNS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")  # Okabe and Ito
_MARKERS = "os^Dv"
_LABEL_GAP = 0.065
"""Least distance between two labels, as a share of the height of the axes."""


def panels(
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
            line(axes, curve, colour, _MARKERS[block % len(_MARKERS)], hollow)
        axes.set(xlabel="epochs trained", ylabel=what, title=run.name)
        finish(axes, run)
        label_ends(axes, [(c, label(run, k), s) for (k, c), s in zip(curves.items(), shades, strict=True)])
    return figure


def line(axes: Axes, curve: Curve, colour: Any, marker: str = "o", hollow: bool = False) -> None:
    """A marker for each epoch where there are few."""
    axes.plot(
        list(curve), list(curve.values()), marker=marker if len(curve) <= 25 else "", ms=3.5, lw=1.4, color=colour,
        clip_on=False, markerfacecolor="white" if hollow else colour,
    )  # fmt: skip
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.25)


def label_ends(axes: Axes, lines: Sequence[tuple[Curve, str, Any]]) -> None:
    """Names every line at the right edge, at the height of its end as far as there is room."""
    scaled = axes.yaxis.get_transform().transform
    low, high = (float(scaled(limit)) for limit in axes.get_ylim())
    ends = [(float(scaled(list(curve.values())[-1])) - low) / (high - low) for curve, _, _ in lines]
    for (_, text, colour), end, place in zip(lines, ends, apart(ends, _LABEL_GAP), strict=True):
        axes.annotate(
            text, (1.0, end), (1.06, place), xycoords="axes fraction", textcoords="axes fraction",
            va="center", fontsize=8 if len(lines) <= 1 / _LABEL_GAP else 5, color=dark(colour), annotation_clip=False,
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


def dark(colour: Any) -> Any:
    """The colour as dark as text has to be."""
    red, green, blue = matplotlib.colors.to_rgb(colour)
    light = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    share = min(1.0, 0.45 / light) if light > 0 else 1.0
    return red * share, green * share, blue * share


def with_lines(
    lines: Mapping[str, Sequence[tuple[str, Curve]]], what: str, *, logarithmic: bool = False
) -> Figure | None:
    """A panel for each entry of ``lines``, four in a row, with named lines over epochs; None where there is none.

    Args:
        lines: by the panel's title; a line is its name and its values by epoch.
        what: the quantity, with its unit.
        logarithmic: of the quantity's axis.
    """
    shown = {title: [(name, c) for name, c in some if c] for title, some in lines.items() if any(c for _, c in some)}
    if not shown:
        return None
    across = min(len(shown), 4)
    down = -(-len(shown) // across)
    figure = Figure(figsize=(4.2 * across, 3.0 * down), layout="constrained")
    grid = figure.subplots(down, across, squeeze=False).flatten()
    for axes in grid[len(shown) :]:
        axes.set_axis_off()
    for axes, (title, some) in zip(grid, shown.items(), strict=False):
        for place, (_, curve) in enumerate(some):
            axes.set_yscale("log" if logarithmic else "linear")
            line(axes, curve, RUNS[place % len(RUNS)], _MARKERS[place % len(_MARKERS)])
        axes.set(xlabel="epochs trained", ylabel=what, title=title)
        label_ends(axes, [(curve, name, RUNS[place % len(RUNS)]) for place, (name, curve) in enumerate(some)])
    return figure
