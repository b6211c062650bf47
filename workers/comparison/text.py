"""A comparison in words: a table of the arms, and who wins by how much."""

from collections.abc import Mapping
from typing import Any

from pipeline.errors import one_line
from pipeline.records.number_text import columns, format_bytes, grouped, percent

__all__ = ["arm_cells", "arm_titles", "comparison_lines", "failure_line", "is_by_loss", "round_line", "verdicts"]

_NUM_COLUMNS = 8


def is_by_loss(table: Mapping[str, Any]) -> bool:
    """The task has no accuracy, so arms are compared by the test loss. Args: see :func:`comparison_lines`."""
    arms = table["arms"].values()
    return all(arm["test"] is None for arm in arms) and any(arm.get("test_loss") is not None for arm in arms)


def arm_titles(table: Mapping[str, Any]) -> tuple[str, ...]:
    """Of what :func:`arm_cells` returns, for every arm of a table."""
    tested = "test loss" if is_by_loss(table) else "test accuracy"
    return "mode", "rule", "stages x threads", tested, "s per epoch", "samples/s", "peak memory", "of which held"


def round_line(name: str, turn: str, result: Mapping[str, Any]) -> str:
    """One run of one arm. Args: turn, the number of its round: ``1/3``."""
    test = result["test"]
    by_loss = test["accuracy"] is None
    score = f"test loss {grouped(test['loss'])}" if by_loss else f"test accuracy {percent(test['accuracy'])} %"
    return (
        f"round {turn}  {name}: {score}, {grouped(result['train_samples_per_s'])} samples/s "
        f"over {result['wall_s']:.2f} s"
    )


def failure_line(name: str, turn: str, error: Exception) -> str:
    """One run of one arm that failed. Args: see :func:`round_line`."""
    return f"round {turn}  {name}: failed: {one_line(error)}"


def comparison_lines(table: Mapping[str, Any]) -> list[str]:
    """The lines for a terminal, of what :func:`workers.comparison.summary.summary_of` returns."""
    cells = [arm_titles(table), *arm_cells(table)]
    return [*columns(cells), "", *verdicts(table)]


def verdicts(table: Mapping[str, Any]) -> list[str]:
    """The first arm against each other one, a line each. Args: see :func:`comparison_lines`."""
    first = next(iter(table["arms"]))
    return [_verdict(first, name, ratios) for name, ratios in table["ratios"].items()]


def arm_cells(table: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """A row for each arm, as texts. Args: see :func:`comparison_lines`."""
    by_loss = is_by_loss(table)
    return [_cells(name, arm, by_loss) for name, arm in table["arms"].items()]


def _cells(name: str, arm: Mapping[str, Any], by_loss: bool) -> tuple[str, ...]:
    if arm["rule"] is None:
        return name, *["-"] * (_NUM_COLUMNS - 1)
    return (
        name, arm["rule"], f"{arm['num_stages']} x {arm['threads_per_stage']}", _score(arm, by_loss),
        grouped(arm["epoch_s"]), grouped(arm["samples_per_s"]), format_bytes(arm["peak_bytes"]),
        format_bytes(arm["memory"]["held_bytes"]),
    )  # fmt: skip


def _score(arm: Mapping[str, Any], by_loss: bool) -> str:
    """Mean and standard deviation."""
    key, shown = ("test_loss", grouped) if by_loss else ("test", percent)
    if arm[key] is None:
        return "-"
    spread = "" if arm[f"{key}_std"] is None else f" +- {shown(arm[f'{key}_std'])}"
    return f"{shown(arm[key])}{spread}{'' if by_loss else ' %'}"


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
    elif (loss := ratios.get("test_loss")) is not None:
        word = "higher" if loss > 0 else "lower"
        parts.append(f"test loss {grouped(abs(loss))} {word}" if loss else "the same test loss")
    if ratios["peak_bytes"] is not None:
        parts.append(f"{ratios['peak_bytes']:.3g} times the memory")
    return f"{own} against {other}: {', '.join(parts) or 'no round of both'}"
