"""The table of :mod:`benchmarks.links`, and the share of its throughput that an arm loses over a link."""

from collections.abc import Mapping
from typing import Any

from benchmarks import harness
from benchmarks.wording import table
from pipeline.numerics.wire_names import Wire
from pipeline.records.number_text import format_bytes

__all__ = ["ARMS", "lost", "markdown"]

ARMS: dict[str, tuple[str, Wire]] = {
    "onward": ("onward-2", "same"), "onward bfloat16": ("onward-2", "bfloat16"), "onward int8": ("onward-2", "int8"),
    "gpipe": ("onward-gpipe", "same"), "1f1b": ("onward-1f1b", "same"), "ddp": ("ddp", "same"),
}  # fmt: skip
"""The four ways of training, Onward's own also with rounded activations: arm in the catalogue, and wire format."""


def lost(over: Mapping[str, Any], unlimited: Mapping[str, Any]) -> dict[str, Any] | None:
    """The share of its throughput that an arm loses over a link, as a spread over the rounds; None without figures."""
    pairs = [
        (a, b) for a, b in zip(over["all"], unlimited["all"], strict=True) if a is not None and b is not None
    ]  # fmt: skip
    return harness.spread([1 - a / b for a, b in pairs]) if pairs else None


def _told(share: Mapping[str, Any]) -> str:
    """``3.9 % lost``, with the least and the most of several rounds."""
    ends = f", {100 * share['min']:.1f} to {100 * share['max']:.1f}" if len(share["all"]) > 1 else ""
    return f"{100 * share['median']:.1f} % lost{ends}"


def markdown(found: Mapping[str, Any]) -> str:
    """A table for people: samples per second, and what is lost against the unshaped link; of the arms in the file.

    Below it stands what a step's activations and labels are on Onward's link, where the file says it.
    """
    base = found["links"].get("unlimited", {})
    rows = []
    for rate, entries in found["links"].items():
        cells = []
        for name, entry in entries.items():
            if not entry["samples_per_s"]:
                cells.append(entry.get("note", entry["status"]))
                continue
            share = lost(entry, base[name]) if rate != "unlimited" and name in base else None
            cells.append(f"{entry['samples_per_s']:.0f}" + (f" ({_told(share)})" if share else ""))
        rows.append([rate, *cells])
    measured = list(dict.fromkeys(name for entries in found["links"].values() for name in entries))
    told = [f"{name} {format_bytes(size)}" for name, size in found.get("message_bytes", {}).items()]
    below = [f"On the link in each step, labels included: {', '.join(told)}."] if told else []
    return "\n\n".join([table(["link", *measured], rows), *below])
