"""A comparison in words: a table of the arms, and who wins by how much."""

from collections.abc import Mapping
from typing import Any

from pipeline.errors import one_line
from pipeline.records.number_text import columns, format_bytes, grouped, percent

__all__ = ["TITLES", "arm_cells", "comparison_lines", "failure_line", "round_line", "verdicts"]

TITLES = (
    "mode", "rule", "stages x threads", "test accuracy", "s per epoch", "samples/s", "peak memory", "of which held",
)  # fmt: skip
"""Of what :func:`arm_cells` returns."""


def round_line(name: str, turn: str, result: Mapping[str, Any]) -> str:
    """One run of one arm. Args: turn, the number of its round: ``1/3``."""
    return (
        f"round {turn}  {name}: test accuracy {percent(result['test']['accuracy'])} %, "
        f"{grouped(result['train_samples_per_s'])} samples/s over {result['wall_s']:.2f} s"
    )


def failure_line(name: str, turn: str, error: Exception) -> str:
    """One run of one arm that failed. Args: see :func:`round_line`."""
    return f"round {turn}  {name}: failed: {one_line(error)}"


def comparison_lines(table: Mapping[str, Any]) -> list[str]:
    """The lines for a terminal, of what :func:`workers.comparison.summary.summary_of` returns."""
    cells = [TITLES, *(arm_cells(name, arm) for name, arm in table["arms"].items())]
    return [*columns(cells), "", *verdicts(table)]


def verdicts(table: Mapping[str, Any]) -> list[str]:
    """The first arm against each other one, a line each. Args: see :func:`comparison_lines`."""
    first = next(iter(table["arms"]))
    return [_verdict(first, name, ratios) for name, ratios in table["ratios"].items()]


def arm_cells(name: str, arm: Mapping[str, Any]) -> tuple[str, ...]:
    """A row of the table, as texts. Args: name and entry of an arm, see :func:`comparison_lines`."""
    spread = "" if arm["test_std"] is None else f" +- {percent(arm['test_std'])}"
    if arm["rule"] is None:
        return name, *["-"] * (len(TITLES) - 1)
    return (
        name, arm["rule"], f"{arm['num_stages']} x {arm['threads_per_stage']}", f"{percent(arm['test'])}{spread} %",
        grouped(arm["epoch_s"]), grouped(arm["samples_per_s"]), format_bytes(arm["peak_bytes"]),
        format_bytes(arm["memory"]["held_bytes"]),
    )  # fmt: skip


def _verdict(own: str, other: str, ratios: Mapping[str, Any]) -> str:
    """``parallel against backprop: 1.52 times as fast (1.47 to 1.58), ...``."""
    parts = []
    if ratios["samples_per_s"] is not None:
        least, most = ratios["samples_per_s_range"]
        spread = f" ({least:.3g} to {most:.3g})" if least != most else ""
        parts.append(f"{ratios['samples_per_s']:.3g} times as fast{spread}")
    if ratios["test"] is not None:
        points = 100 * ratios["test"]
        word = "more" if points > 0 else "less"
        parts.append(f"{abs(points):.2f} points {word} accurate" if round(points, 2) else "as accurate")
    if ratios["peak_bytes"] is not None:
        parts.append(f"{ratios['peak_bytes']:.3g} times the memory")
    return f"{own} against {other}: {', '.join(parts) or 'no round of both'}"
