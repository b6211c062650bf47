"""Sections about what was measured of the weights: angles, probes, updates, credit, maps, layouts."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from workers.report.charts import decision_map, layout, lines
from workers.report.learning import block_legend, block_lines, quantity_title, run_lines, scaled
from workers.report.measured import Arrays, Curve
from workers.report.parts import Panel, Section
from workers.report.runs import ReportRun

__all__ = ["measurement_sections"]

_MOST_EPOCHS = 5
"""Measured epochs of a run that are shown as maps; more are left out evenly."""


def measurement_sections(runs: Sequence[ReportRun]) -> list[Section]:
    """As far as the runs have measured something (``[measure]``)."""
    angles = [_blocks(r, i, r.measured.angles, "angle to backpropagation, degrees", 0.0, 90.0)
              for i, r in enumerate(runs)]  # fmt: skip
    probes = [
        _blocks(r, i, {k: scaled(c, "test_accuracy") for k, c in r.measured.accuracies.items()},
                quantity_title("test_accuracy")) for i, r in enumerate(runs) if r.measured.fitted
    ]  # fmt: skip
    moved = [
        _blocks(r, i, {k: {e: u for e, u in c.items() if u > 0} for k, c in r.measured.updates.items()},
                "relative update of the weights") for i, r in enumerate(runs)
    ]  # fmt: skip
    legend = block_legend(max((r.last_block + 1 for r in runs if r.last_block is not None), default=1))
    return [
        Section("angles", "Angles to backpropagation", "Between the rule's gradient of each block and that of the "
                "output loss; below 90 degrees a small step lowers the loss.", legend, panels=_some(angles)),
        Section("probes", "Readouts of every block", "By the block's own decoder, or by a linear probe where it has "
                "none.", legend, panels=_some(probes)),
        Section("updates", "Updates", "How far each block's weights moved since the measurement before.", legend,
                panels=_some(moved)),
        Section("depth", "Depth of credit", "Blocks that were updated for a sample, a mean over the epoch.",
                panels=_depth(runs)),
        Section("maps", "Decision maps", "The value of each block's decoder over the plane; the line is the boundary.",
                panels=[p for i, r in enumerate(runs) for p in _maps(r, i)]),
        Section("tsne", "Representations by t-SNE", "Test samples, coloured by class.",
                panels=[p for i, r in enumerate(runs) for p in _layouts(r, i)]),
    ]  # fmt: skip


def _some(panels: Sequence[Panel | None]) -> list[Panel]:
    return [panel for panel in panels if panel is not None]


def _blocks(
    run: ReportRun, place: int, curves: Mapping[int, Curve], what: str, floor: float | None = None,
    guide: float | None = None,
) -> Panel | None:  # fmt: skip
    """A run's panel with a line for each block; None where nothing was measured."""
    found = block_lines(curves)
    if not found:
        return None
    return Panel(f"{run.name}: {what}", lines(found, f"{what} of {run.name}", floor=floor, guide=guide), place)


def _depth(runs: Sequence[ReportRun]) -> list[Panel]:
    found = run_lines(runs, [run.measured.depth for run in runs])
    return [Panel("blocks per sample", lines(found, "depth of credit by run", floor=0.0))] if found else []


def _maps(run: ReportRun, place: int) -> list[Panel]:
    """A row of small panels for each of some measured epochs."""
    arrays: Arrays | None = run.measured.maps
    if arrays is None:
        return []
    epochs, blocks = arrays["values"].shape[:2]
    return [
        Panel(f"{run.name}: epoch {int(arrays['epochs'][i])}, block {k}",
              decision_map(arrays, i, k, f"decision map of {run.name}, epoch {i}, block {k}"), place, is_small=True)
        for i in _spread(epochs) for k in range(blocks)
    ]  # fmt: skip


def _layouts(run: ReportRun, place: int) -> list[Panel]:
    arrays: Arrays | None = run.measured.tsne
    if arrays is None:
        return []
    points: Any = arrays["points"]
    return [
        Panel(f"{run.name}: epoch {int(arrays['epochs'][i])}, block {int(arrays['blocks'][k])}",
              layout(points[i, k], arrays["labels"], f"layout of {run.name}, epoch {i}, block {k}"), place, True)
        for i in range(points.shape[0]) for k in range(points.shape[1])
    ]  # fmt: skip


def _spread(count: int) -> list[int]:
    """At most so many positions, the first and the last among them, evenly."""
    return sorted({round(float(i)) for i in np.linspace(0, count - 1, min(count, _MOST_EPOCHS))})
