"""Tables of a scaling study and of the planner's errors; measured and emulated are never in one table."""

from collections.abc import Callable, Mapping
from typing import Any

from benchmarks import harness
from benchmarks.wording import share_text, spread_text, table
from pipeline.records.number_text import format_bytes, grouped

__all__ = ["TABLES", "partitions", "plan_errors", "scaling"]


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
            point["schedule"], str(point["stages"]), str(point.get("microbatches") or "-"),
            grouped(rate) if rate is not None else point["note"],
            share_text(point["efficiency"]), share_text(point["of_slowest_stage"]),
            grouped(point["planned"]) if point["planned"] is not None else "-",
        ])  # fmt: skip
    head = ["schedule", "stages", "micro-batches", f"samples per second, {compute} compute", "efficiency",
            "of the slowest stage", "planned"]  # fmt: skip
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
    """A row for each run that a plan was compared with, then the errors by group, then how long a plan takes."""
    rows = [
        [f"{r['preset']}, {r['schedule']}", _stages(r), _link(r), grouped(r["predicted"]), _rates(r),
         _signed(r["error"]), _signed(r["simulated_error"]) if r["rehearsed"] else "-", _signed(r.get("drift")),
         _signed(r["memory_error"])]
        for r in found["rows"]
    ]  # fmt: skip
    head = ["run", "stages", "link", "planned samples per second", "measured", "error", "of the simulation",
            "machine meanwhile", "error of memory"]  # fmt: skip
    errors, parts = found["errors"], [table(head, rows)]
    groups = [[name, *_group(each)] for name, each in [("all", errors), *errors.get("groups", {}).items()]]
    parts.append(table(["runs", "number", "median error", "worst", "worst of memory"], groups))
    for name, times in found.get("planning", {}).items():
        cold, cached = times["cold_s"], times["cached_s"]
        parts.append(f"`--plan` of {name}: {cold:.1f} s with nothing known, then {cached:.1f} s.")
    return "\n\n".join(parts)


def _rates(row: Mapping[str, Any]) -> str:
    """The rate of a run, and in brackets the least and the most where it was started several times."""
    return spread_text(harness.spread(row["starts"]) if "starts" in row else row["measured"])


def _stages(row: Mapping[str, Any]) -> str:
    replicas = row.get("replicas") or ()
    return f"{row['stages']}" + (f", {' + '.join(map(str, replicas))} replicas" if replicas else "")


def _link(row: Mapping[str, Any]) -> str:
    rate = row.get("mbit_per_s")
    return f"{row['delay_s'] * 1e3:g} ms" if rate is None else f"{rate:g} Mbit/s"


def _group(found: Mapping[str, Any]) -> list[str]:
    shares = (found["median"], found["worst"], found["memory_worst"])
    return [str(found["runs"]), *(f"{share * 100:.1f} %" for share in shares)]


def _signed(share: float | None) -> str:
    return "-" if share is None else f"{share * 100:+.1f} %"


def partitions(found: Mapping[str, Any]) -> str:
    """A row for each cut of each net; the plan's is marked, and so is the best."""
    rows, last = [], []
    for net in found["nets"]:
        for each in net["cuts"]:
            cut, marks = each["cut"], {net["planned"]: "planned"}
            marks[net["best"]] = "planned, best" if net["best"] == net["planned"] else "best"
            rate, runs = each["samples_per_s"], len(each["samples_per_s"]["all"])
            rows.append([net["net"], str(cut), spread_text(rate), str(runs), marks.get(cut, "")])
        last.append(f"{net['net']}: the planned cut has {spread_text(net['share'], _share)} of the best one's rate.")
    head = ["net", "blocks of the first stage", "samples per second", "runs", ""]
    return "\n\n".join([table(head, rows), *last])


def _share(value: float) -> str:
    return f"{value * 100:.1f} %"


TABLES: dict[str, tuple[str, Callable[[Mapping[str, Any]], str]]] = {
    **{
        f"scaling-{compute}-{kind}": ("scaling", lambda found, c=compute, k=kind: scaling(found, c, k))  # type: ignore[misc]
        for compute, kind in (
            ("real", "strong"), ("real", "weak"), ("emulated", "strong"), ("emulated", "weak"),
        )
    },
    "scaling-runtime": ("scaling", runtime),
    "plan-errors": ("plan", plan_errors),
    "partitions": ("partitions", partitions),
}
