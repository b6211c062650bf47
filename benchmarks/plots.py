"""The plots of the results, as small SVG files; needs matplotlib."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.link_tables import lost
from benchmarks.tables import largest_stage, read
from benchmarks.wording import figures, number
from pipeline.records.number_text import format_bytes, grouped

__all__ = ["draw"]

_STYLE: dict[Any, Any] = {
    "svg.hashsalt": "onward", "svg.fonttype": "none",  # the same bytes for the same figures, and text as text
    "font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.axisbelow": True,
}  # fmt: skip
_OURS, _THEIRS = "#1f77b4", "#b0b0b0"
_PARTS = {
    "parameter": "#1f77b4", "head": "#17becf", "optimizer": "#9467bd", "held": "#d62728", "queue": "#ff7f0e",
    "other": "#d0d0d0",
}  # fmt: skip
_FAMILIES = ("throughput", "links")
"""Of files, one for each preset."""
_MIB = 2**20


def draw(results: Path) -> list[Path]:
    """Draws what there are files for, into ``plots`` below ``results``; returns the files."""
    drawn = []
    with matplotlib.rc_context(_STYLE):
        for path in sorted(results.glob("*.json")):
            family = path.stem.partition("-")[0]
            kind = family if family in _FAMILIES else path.stem
            if kind in _PLOTS:
                figure = _PLOTS[kind](read(path))
                drawn.append(results / "plots" / f"{path.stem}.svg")
                drawn[-1].parent.mkdir(exist_ok=True)
                figure.savefig(drawn[-1], bbox_inches="tight", metadata={"Date": None})
    return drawn


def _throughput(found: Mapping[str, Any]) -> Figure:
    """Samples per second of every arm, labelled with how ``onward-2`` compares; a group's best arm has its own bar."""
    arms = {name: arm for name, arm in found["arms"].items() if arm["samples_per_s"] and "best" not in arm}
    figure = Figure(figsize=(6.5, 0.6 + 0.28 * len(arms)))
    axes = figure.subplots()
    colours = [_OURS if name.startswith("onward") else _THEIRS for name in arms]
    bars = axes.barh(list(arms), [arm["samples_per_s"] for arm in arms.values()], color=colours)
    ratios = (found.get("ratios_all", {}).get(name) for name in arms)
    labels = [f" onward-2: {number(r):.2f} times as fast" if r is not None else "" for r in ratios]
    axes.bar_label(bars, labels, fontsize=8)
    axes.invert_yaxis()
    axes.margins(x=0.3)
    axes.set_xlabel(f"samples per second, {found['preset']}")
    return figure


def _transport(found: Mapping[str, Any]) -> Figure:
    """Latency and bandwidth against the size, both logarithmic."""
    figure = Figure(figsize=(8.0, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    sizes = found["sizes"]
    for name, cells in found["arms"].items():
        width = 2.0 if name == "shared_memory" else 1.0
        left.plot(sizes, [1e6 * number(cells[str(n)]["latency_s"]) for n in sizes], "o-", lw=width, ms=3, label=name)
        right.plot(sizes, [number(cells[str(n)]["bytes_per_s"]) / 1e9 for n in sizes], "o-", lw=width, ms=3)
    for axes, label in ((left, "one way, us"), (right, "stream, GB/s")):
        axes.set(xscale="log", yscale="log", xlabel="size of a message", ylabel=label)
        axes.set_xticks(sizes, [format_bytes(n).replace(".0", "") for n in sizes], rotation=30)
        axes.minorticks_off()
        axes.grid(alpha=0.3)
    left.legend(frameon=False, fontsize=8)
    return figure


def _memory(found: Mapping[str, Any]) -> Figure:
    """Peak of the largest stage above the baseline, stacked, for every arm and depth."""
    networks = found["networks"]
    figure = Figure(figsize=(6.5, 0.8 + 0.26 * len(networks)))
    axes = figure.subplots()
    labels = [f"{row['blocks']} blocks, {row['arm']}" for row in networks]
    stages = [largest_stage(row) for row in networks]
    left = [0.0] * len(stages)
    for part, colour in _PARTS.items():
        widths = [max(stage[f"{part}_bytes"], 0.0) / _MIB for stage in stages]
        axes.barh(labels, widths, left=left, color=colour, label=part)
        left = [a + b for a, b in zip(left, widths, strict=True)]
    axes.invert_yaxis()
    axes.set_xlabel("peak of the largest stage above the baseline, MiB")
    axes.legend(frameon=False, fontsize=8)
    return figure


def _sequential(found: Mapping[str, Any]) -> Figure:
    """Seconds against the number of blocks."""
    figure = Figure(figsize=(5.0, 3.2))
    axes: Axes = figure.subplots()
    for row in found["arms"]:
        times = [number(row["seconds"][str(n)]) for n in found["blocks"]]
        label = f"{row['stages']} stages, cache {row['cache']}"
        axes.plot(found["blocks"], times, "o-" if row["cache"] != "off" else "o--", ms=3, label=label)
    axes.set_xticks(found["blocks"])
    axes.set(xlabel="equal blocks", ylabel="seconds", ylim=(0, None))
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=8)
    return figure


def _overhead(found: Mapping[str, Any]) -> Figure:
    """Microseconds of every part."""
    parts = dict(figures(found["parts"]))
    figure = Figure(figsize=(6.0, 0.6 + 0.28 * len(parts)))
    axes = figure.subplots()
    bars = axes.barh(list(parts), [number(value) for value in parts.values()], color=_OURS)
    axes.bar_label(bars, [f" {grouped(number(value))}" for value in parts.values()], fontsize=8)
    axes.invert_yaxis()
    axes.margins(x=0.15)
    axes.set_xlabel("microseconds")
    return figure


def _scaling(found: Mapping[str, Any]) -> Figure:
    """Efficiency over the stages, strong and weak, emulated compute; real compute is dotted."""
    figure = Figure(figsize=(8.0, 3.2), layout="constrained")
    for axes, kind in zip(figure.subplots(1, 2, sharey=True), ("strong", "weak"), strict=True):
        for compute, style in (("emulated", "o-"), ("real", "s:")):
            own = [p for p in found["points"] if (p["kind"], p["compute"]) == (kind, compute) and p["efficiency"]]
            for schedule in dict.fromkeys(p["schedule"] for p in own):
                line = sorted((p["stages"], p["efficiency"]) for p in own if p["schedule"] == schedule)
                label = f"{schedule}, {compute}"
                axes.plot([n for n, _ in line], [e for _, e in line], style, ms=3, label=label)
        axes.set_xscale("log", base=2)
        axes.set_xlabel(f"stages, {kind} scaling")
        axes.set_ylim(bottom=0)
    axes.legend(fontsize=7)
    figure.axes[0].set_ylabel("efficiency")
    return figure


def _links(found: Mapping[str, Any]) -> Figure:
    """The share of its unshaped link's throughput that every arm keeps, over slower and slower links."""
    figure = Figure(figsize=(6.0, 3.2))
    axes = figure.subplots()
    links = found["links"]
    base = links.get("unlimited", {})
    for arm in base:
        kept = [
            (rate, 100 * (1 - share["median"])) for rate, entries in links.items()
            if arm in entries and (share := lost(entries[arm], base[arm])) is not None
        ]  # fmt: skip
        style = "o-" if arm.startswith("onward") else "o--"
        axes.plot([rate for rate, _ in kept], [share for _, share in kept], style, ms=3, label=arm)
    axes.set_ylabel("of its own rate without a limit, %")
    axes.set_xlabel(f"link between two hosts, {found['preset']}")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=8)
    return figure


_PLOTS: dict[str, Callable[[Mapping[str, Any]], Figure]] = {
    "links": _links,
    "scaling": _scaling,
    "throughput": _throughput,
    "transport": _transport,
    "memory": _memory,
    "sequential": _sequential,
    "overhead": _overhead,
}
