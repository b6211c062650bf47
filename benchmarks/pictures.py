"""Pictures of stored runs, those of each cell's first seed: filters, and layouts of hidden layers; needs matplotlib."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from benchmarks.accuracy.cell import PublishedTable
from benchmarks.accuracy.metrics import neighbours
from benchmarks.accuracy.store import Store
from benchmarks.drawings import scatter
from benchmarks.filters import pictures

__all__ = ["draw_filters", "draw_layouts"]

_GAP = 2
"""Pixels between two filters."""


def draw_filters(table: PublishedTable, store: Store) -> Figure | None:
    """A row of filters for each cell that ran, every one in shades of grey from its least weight to its largest."""
    rows = list(_first_runs(table, store, "filters"))
    if not rows:
        return None
    figure = Figure(figsize=(6.4, 1.05 * len(rows)), layout="constrained")
    for axes, (row, run) in zip(figure.subplots(len(rows), 1, squeeze=False)[:, 0], rows, strict=True):
        found = run["filters"]
        axes.imshow(_side_by_side(pictures(found)), cmap="gray", interpolation="none", vmin=0, vmax=255)
        axes.set_title(f"{row}: total variation {found['after']:.3g}", fontsize=8)
        axes.set_axis_off()
    return figure


def _side_by_side(images: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """One image of several, (images, height, width), with gaps of no colour."""
    wide = np.pad(images.astype(float), ((0, 0), (0, 0), (0, _GAP)), constant_values=np.nan)
    return np.hstack(list(wide))[:, :-_GAP]


def draw_layouts(table: PublishedTable, store: Store) -> Figure | None:
    """A row for each cell that ran, a column for each hidden layer, after training, with the vote's accuracy."""
    rows = list(_first_runs(table, store, "layout"))
    if not rows:
        return None
    columns = max(len(run["layout"]["blocks"]) for _, run in rows)
    figure = Figure(figsize=(2.2 * columns, 2.4 * len(rows)), layout="constrained")
    for cells, (row, run) in zip(figure.subplots(len(rows), columns, squeeze=False), rows, strict=True):
        found = run["layout"]
        for axes in cells[len(found["blocks"]) :]:
            axes.set_axis_off()
        for axes, block, points in zip(cells, found["blocks"], found["points"], strict=False):
            scatter(axes, np.asarray(points), np.asarray(found["labels"]))
            for samples in axes.collections:
                samples.set_rasterized(True)  # as vectors they would be most of the file
            vote = neighbours("after", block)(run)
            said = f"layer {block + 1}" if vote is None else f"layer {block + 1}: {vote:.1f} %"
            axes.set_title(f"{row}\n{said}" if axes is cells[0] else said, fontsize=8)
    return figure


def _first_runs(table: PublishedTable, store: Store, key: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Each cell's row, and its first run that has kept ``key``."""
    for cell in table.cells:
        found = next((run for run in store.completed(table, cell) if key in run), None)
        if found is not None:
            yield cell.figures[0].row, found
