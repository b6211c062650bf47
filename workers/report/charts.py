"""The drawings of a report, each an ``<svg>`` of its own; needs matplotlib.

Texts in them are numbers and words of this file: what a run's folder says stands beside them, as HTML.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from workers.report.embed import STYLE, Mark, embed
from workers.report.inks import ink
from workers.report.measured import Arrays, Curve
from workers.report.stages import Slice

__all__ = ["ROW_HEIGHT", "Line", "bars", "decision_map", "layout", "lines", "strip", "styled"]

ROW_HEIGHT = 28
"""Pixels of a row of bars or of a strip; labels in the page stand beside them."""
_WIDTH, _HEIGHT = 400, 232
_LOGARITHMIC = 30.0
"""A quantity that goes over so wide a range is drawn on a logarithmic axis."""
_NARROW = 300.0
"""Up to here a logarithmic axis has more than powers of ten."""
_CLASSES = 10


@dataclass(frozen=True)
class Line:
    """A curve, how it is drawn, and what it is known by."""

    curve: Curve
    ink: str
    dashes: Sequence[float]
    mark: Mark


@contextmanager
def styled() -> Iterator[None]:
    """Drawings are made under this."""
    with matplotlib.rc_context(dict(STYLE)):
        yield


def lines(
    curves: Sequence[Line], label: str, *, floor: float | None = None, top: float | None = None,
    guide: float | None = None,
) -> str:  # fmt: skip
    """Curves over the epochs.

    Args:
        curves: at least one that is not empty.
        label: what is drawn.
        floor: the least value that the axis goes down to, in any case; such an axis is linear.
        top: the most that an axis with a floor goes up to, in any case.
        guide: a value at which a line goes across.
    """
    figure, marks = Figure(figsize=(_WIDTH / 72, _HEIGHT / 72)), {}
    axes = figure.add_axes((62 / _WIDTH, 40 / _HEIGHT, 1 - 74 / _WIDTH, 1 - 50 / _HEIGHT))
    for number, line in enumerate(curves):
        few = len(line.curve) <= 25
        (drawn,) = axes.plot(
            list(line.curve), list(line.curve.values()), lw=1.6, color=line.ink, clip_on=False, solid_capstyle="round",
            dashes=line.dashes or (None, None), marker="o" if few else "", ms=3.0 if len(line.curve) > 1 else 5.0,
        )  # fmt: skip
        drawn.set_gid(f"line{number}")
        marks[f"line{number}"] = line.mark
    values = [value for line in curves for value in line.curve.values()]
    if floor is not None:
        axes.set_ylim(min(floor, *values), None if max(values) > floor else floor + 1)
        if top is not None:
            axes.set_ylim(top=1.02 * max(top, *values))
    else:
        _scale(axes, [*values, *([guide] if guide is not None else [])])
    if guide is not None:
        axes.axhline(guide, color=ink("muted"), lw=1.0, ls=(0, (4, 3)))
    _finish(axes)
    return embed(figure, marks, label)


def _scale(axes: Any, values: Sequence[float]) -> None:
    """A logarithmic axis where the values go over a wide range."""
    if min(values) > 0 and max(values) / min(values) > _LOGARITHMIC:
        axes.set_yscale("log")
        is_narrow = max(values) / min(values) < _NARROW
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if is_narrow else (1.0,), numticks=8))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())


def _finish(axes: Any) -> None:
    """Epochs as whole numbers, and colours that go with the page."""
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
    axes.set_xlabel("epochs trained", color=ink("fg"))
    axes.grid(color=ink("grid"), lw=0.8)
    axes.tick_params(which="both", colors=ink("muted"), labelcolor=ink("fg"))
    for side in ("left", "bottom"):
        axes.spines[side].set_color(ink("muted"))


def bars(
    rows: Sequence[Mapping[str, float]], inks: Mapping[str, str], most: float, title: Callable[[str, float], str],
    label: str,
) -> str:  # fmt: skip
    """Stacked bars, one below the other, each :data:`ROW_HEIGHT` high.

    Args:
        rows: the parts of each.
        inks: of the parts, in their order.
        most: what the whole width stands for.
        title: of a part, by its name and size.
        label: what is drawn.
    """
    figure, marks = _without_frame(len(rows)), dict[str, Mark]()
    axes = _over_all(figure, max(most, 1e-12), len(rows))
    for place, row in enumerate(rows):
        left = 0.0
        for name, colour in inks.items():
            size = row.get(name) or 0.0
            if size > 0:
                (bar,) = axes.barh([place + 0.5], [size], 0.7, left=left, color=colour, lw=0)
                bar.set_gid(f"bar{len(marks)}")
                marks[f"bar{len(marks)}"] = Mark("part", title(name, size))
                left += size
    return embed(figure, marks, label, stretches=True)


def strip(rows: Sequence[Sequence[Slice]], inks: Mapping[str, str], end_s: float, label: str) -> str:
    """What each process did over the time of the run, as shares of every slice of it.

    Args:
        rows: the slices of each process.
        inks: of the activities, in their order.
        end_s: seconds that the width stands for.
        label: what is drawn.
    """
    figure, marks = _without_frame(len(rows)), dict[str, Mark]()
    axes = _over_all(figure, max(end_s, 1e-12), len(rows))
    for place, slices in enumerate(rows):
        if not slices:
            continue
        edges = np.array([edge for s in slices for edge in (s.start_s, s.end_s)])
        base = np.full(len(edges), place + 0.92)
        for name, colour in inks.items():
            share = np.repeat([s.shares.get(name, 0.0) for s in slices], 2)
            if share.any():
                area = axes.fill_between(edges, base, base - 0.84 * share, color=colour, lw=0)
                area.set_gid(f"area{len(marks)}")
                marks[f"area{len(marks)}"] = Mark("part", name.replace("_", " "))
            base = base - 0.84 * share
    return embed(figure, marks, label, stretches=True)


def _without_frame(rows: int) -> Figure:
    return Figure(figsize=(_WIDTH / 72, ROW_HEIGHT * rows / 72))


def _over_all(figure: Figure, right: float, rows: int) -> Any:
    """Axes that fill the figure, the first row at the top."""
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set(xlim=(0, right), ylim=(rows, 0))
    return axes


def decision_map(arrays: Arrays, epoch: int, block: int, label: str) -> str:
    """The value of a block's decoder over the plane, its colours symmetric about the boundary, which is a line.

    Args:
        arrays: of ``maps.npz``.
        epoch, block: places in them.
        label: what is drawn.
    """
    x, y, values = arrays["x_axis"], arrays["y_axis"], arrays["values"][epoch, block]
    level = float(arrays["levels"][epoch, block])
    level = float(values.mean()) if math.isnan(level) else level
    reach = max(float(np.abs(values - level).max()), 1e-12)
    figure, axes = _square()
    axes.imshow(
        values, extent=(x[0], x[-1], y[0], y[-1]), origin="lower", cmap="PuOr", vmin=level - reach,
        vmax=level + reach, aspect="auto",
    )  # fmt: skip
    if values.min() < level < values.max():
        axes.contour(x, y, values, levels=[level], colors="black", linewidths=1.2, linestyles="solid")
    return embed(figure, {}, label)


def layout(points: Any, labels: Any, label: str) -> str:
    """Samples laid out on the plane, coloured by class. Args: points (n, 2), labels (n), what is drawn."""
    figure, axes = _square()
    colours = matplotlib.colormaps["tab10"]
    for number in np.unique(labels):
        chosen = points[labels == number]
        axes.scatter(chosen[:, 0], chosen[:, 1], s=6, color=colours(int(number) % _CLASSES), lw=0)
    return embed(figure, {}, label)


def _square() -> tuple[Figure, Any]:
    figure = Figure(figsize=(160 / 72, 160 / 72))
    axes = figure.add_axes((0.01, 0.01, 0.98, 0.98))
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
    return figure, axes
