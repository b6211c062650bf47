"""Tables of a scaling study and of the planner's errors; measured and emulated are never in one table."""

from collections.abc import Callable, Mapping
from typing import Any

from benchmarks.wording import share_text, table
from pipeline.records.number_text import format_bytes, grouped

__all__ = ["TABLES", "plan_errors", "scaling"]


def scaling(found: Mapping[str, Any], compute: str, kind: str) -> str:
    """A row for each point of one kind.

    Args:
        found: a file of :mod:`benchmarks.scaling`.
        compute: real or emulated.
        kind: strong or weak.
    """
    rows = []
    for point in found["points"]:
        if (point["compute"], point["kind"]) != (compute, kind):
            continue
        rate = point["samples_per_s"]
        rows.append([
            point["schedule"], str(point["stages"]), grouped(rate) if rate is not None else point["note"],
            share_text(point["efficiency"]), share_text(point["of_slowest_stage"]),
            grouped(point["planned"]) if point["planned"] is not None else "-",
        ])  # fmt: skip
    head = ["schedule", "stages", f"samples per second, {compute} compute", "efficiency", "of the slowest stage",
            "planned"]  # fmt: skip
    return table(head, rows) if rows else ""


def runtime(found: Mapping[str, Any]) -> str:
    """What the runtime itself costs: Onward's own points under emulated compute."""
    rows = [
        [str(p["stages"]), p["kind"], f"{p['start_s']:.1f} s", f"{p['end_s']:.1f} s", _cores(p["cpu"]["coordinator"]),
         _cores(p["cpu"]["stages"]), format_bytes(p["peak_rss_bytes"])]
        for p in found["points"] if p["compute"] == "emulated" and p["schedule"] == "onward"
    ]  # fmt: skip
    head = ["stages", "scaling", "start", "end", "cores of the coordinator", "cores of the stages", "peak of a stage"]
    return table(head, rows, 2) if rows else ""


def _cores(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def plan_errors(found: Mapping[str, Any]) -> str:
    """A row for each run that a plan was compared with, then the errors of all."""
    rows = [
        [f"{r['preset']}, {r['schedule']}", str(r["stages"]), f"{r['delay_s'] * 1e3:g} ms", grouped(r["predicted"]),
         grouped(r["measured"]), f"{r['error'] * 100:+.1f} %", f"{r['memory_error'] * 100:+.1f} %"]
        for r in found["rows"]
    ]  # fmt: skip
    head = ["run", "stages", "latency", "planned samples per second", "measured", "error", "error of memory"]
    errors = found["errors"]
    last = f"{errors['runs']} runs: median error {errors['median'] * 100:.1f} %, worst {errors['worst'] * 100:.1f} %."
    return f"{table(head, rows)}\n\n{last}"


TABLES: dict[str, tuple[str, Callable[[Mapping[str, Any]], str]]] = {
    **{
        f"scaling-{compute}-{kind}": ("scaling", lambda found, c=compute, k=kind: scaling(found, c, k))  # type: ignore[misc]
        for compute, kind in (("real", "strong"), ("emulated", "strong"), ("emulated", "weak"))
    },
    "scaling-runtime": ("scaling", runtime),
    "plan-errors": ("plan", plan_errors),
}
