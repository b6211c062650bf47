"""A plan in words: one line for each case, then what to do."""

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.records.number_text import columns, duration, format_bytes, grouped

__all__ = ["plan_lines", "rate_text"]

Row = Mapping[str, Any]

_TITLES = ("schedule", "stages", "blocks", "samples/s", "ms per batch", "ms of each stage", "bubble", "bottleneck")


def rate_text(bits_per_s: float) -> str:
    """``12.3 Mbit/s``."""
    for unit, size in (("Gbit/s", 1e9), ("Mbit/s", 1e6), ("kbit/s", 1e3)):
        if bits_per_s >= size:
            return f"{bits_per_s / size:.3g} {unit}"
    return f"{bits_per_s:.3g} bit/s"


def plan_lines(rows: Sequence[Row], best: Row, about: str) -> list[str]:
    """The lines for a terminal."""
    cells = [_TITLES, *(_cells(row) for row in rows)]
    tried = ["  (tried): these processes ran here for a moment"] if any(row["rehearsed"] for row in rows) else []
    return [about, *columns(cells), *tried, "", *_details(best)]


def _cells(row: Row) -> tuple[str, ...]:
    replicas = row["replicas"]
    sizes = zip(row["partition"], replicas, strict=True)
    parts = [f"{size}x{count}" if count > 1 else str(size) for size, count in sizes]
    return (
        row["schedule"], str(row["stages"]), _short(parts),
        grouped(row["samples_per_s"]) + (" (tried)" if row["rehearsed"] else ""),
        f"{row['step_s'] * 1e3:.4g}", _short([f"{s * 1e3:.3g}" for s in row["stage_s"]]),
        f"{row['bubble'] * 100:.0f} %", row["bottleneck"],
    )  # fmt: skip


def _short(texts: Sequence[str]) -> str:
    """The first ones of a long list."""
    return " ".join(texts) if len(texts) <= 8 else f"{' '.join(texts[:4])} ... {texts[-1]}"


def _details(row: Row) -> list[str]:
    """What is known of the best placement of the run's own rule."""
    lines = [
        f"best for {row['rule']}: {row['stages']} stage{'s' if row['stages'] > 1 else ''}, "
        f"{grouped(row['samples_per_s'])} samples/s, {duration(row['run_s'])} for the run without evaluation",
        f"  bottleneck: {row['bottleneck']}; {row['advice']}",
    ]  # fmt: skip
    if row["links"]:
        up = _short([format_bytes(link["up_bytes"]) for link in row["links"]])
        down = _short([format_bytes(link["down_bytes"]) for link in row["links"]])
        lines.append(f"  bytes per step on each link: up {up}; down {down}")
        rate, depth = row["least_link_bit_per_s"], row["least_depth"]
        needs = [] if rate is None else [f"a link of {rate_text(rate)}"]
        needs.append("no transport.depth is enough" if depth is None else f"transport.depth {depth}")
        lines.append(f"  for at most 2 % loss: {', '.join(needs)}")
    kinds = ("parameter", "gradient", "optimizer", "held", "queue")
    for memory in row["memory"][:8]:
        parts = ", ".join(f"{kind} {format_bytes(memory[f'{kind}_bytes'])}" for kind in kinds)
        lines.append(f"  memory of stage {memory['stage']}: {parts}")
    if row["heads_share"]:
        heads = f"  the rule's own matrices (heads) are {row['heads_share'] * 100:.0f} % of the arithmetic"
        advice = "; smaller heads, or pooled ones, would pay" if row["heads_share"] > 0.2 else ""
        lines.append(heads + advice)
    return lines
