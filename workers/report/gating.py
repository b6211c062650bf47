"""Sections about the mode gated: the part that each block took of its steps, and how far its input still moved."""

from collections.abc import Iterator, Mapping, Sequence

from workers.report.charts import lines
from workers.report.given import number
from workers.report.learning import block_legend, block_lines
from workers.report.measured import Curve
from workers.report.parts import Panel, Section
from workers.report.runs import ReportRun

__all__ = ["gating_sections"]

_AXES = ("least", "median", "most")
_NEAR = 30.0
"""``gate.tau`` is shown beside drift where it is so near to it; a tau of 1e30 would press the curves flat."""


def gating_sections(runs: Sequence[ReportRun]) -> list[Section]:
    """As far as runs were gated."""
    gated = [(place, run) for place, run in enumerate(runs) if run.gates.get("gate")]
    legend = block_legend(max((r.last_block + 1 for _, r in gated if r.last_block is not None), default=1))
    gates = [
        Panel(f"{run.name}: part of a step", lines(found, f"gate of every block of {run.name}", floor=0.0, top=1.0),
              place)
        for place, run in gated
        if (found := block_lines(run.gates["gate"]))
    ]
    return [
        Section("gates", "Gate by block", "The part that each block took of its optimizer's steps, a mean over the "
                "epoch: 1 is a whole step.", legend, panels=gates),
        Section("drift", "Drift by block", "How far each block's input still moves from one probe to the next, at the "
                "end of the epoch; of several axes the mean. The input of the first block never moves: it has no "
                "line. Across goes gate.tau, where it is near.", legend,
                panels=[panel for place, run in gated for panel in _drift(run, place)]),
        Section("axes", "Gate by axis", "What the axes of each block's input give, one part each, at the end of the "
                "epoch: the least of them, the median and the most.", legend,
                panels=[panel for place, run in gated for panel in _axes(run, place)]),
    ]  # fmt: skip


def _drift(run: ReportRun, place: int) -> Iterator[Panel]:
    """A panel where something moved."""
    curves = {
        block: {epoch: value for epoch, value in curve.items() if value > 0.0}
        for block, curve in run.gates.get("drift", {}).items()
    }
    if found := block_lines(curves):
        yield Panel(
            f"{run.name}: drift of the input", lines(found, f"drift of {run.name}", guide=_tau(run, curves)), place
        )


def _tau(run: ReportRun, curves: Mapping[int, Curve]) -> float | None:
    """Where the gate turns; None far from every curve."""
    tau, values = number(run.config.get("gate.tau")), [value for curve in curves.values() for value in curve.values()]
    is_near = tau is not None and min(values) / _NEAR <= tau <= max(values) * _NEAR
    return tau if is_near else None


def _axes(run: ReportRun, place: int) -> Iterator[Panel]:
    """A panel for each summary of the axes, where they had parts of their own."""
    for which in _AXES:
        if found := block_lines(run.gates.get(f"axes_{which}", {})):
            svg = lines(found, f"{which} part of the axes of {run.name}", floor=0.0, top=1.0)
            yield Panel(f"{run.name}: {which} of the axes", svg, place)
