"""A sweep in words: a line for each run as it ends, a table of the cells, and which is best by what."""

from collections.abc import Mapping
from typing import Any

from pipeline.records.number_text import columns, format_bytes, grouped, percent

__all__ = ["cell_cells", "run_line", "sweep_lines", "titles_of", "verdict"]


def run_line(name: str, seed: int, turn: str, outcome: Mapping[str, Any]) -> str:
    """One run that has ended. Args: its cell and seed; turn, how many have ended: ``3/12``; what it has come to."""
    about = f"[{turn}] {name}, seed {seed}"
    if "error" in outcome:
        return f"{about}: failed: {outcome['error']}"
    result = outcome["result"]
    accuracy = result["test"]["accuracy"]
    loss = f"test loss {grouped(result['test']['loss'])}"
    score = loss if accuracy is None else f"test accuracy {percent(accuracy)} %"
    return f"{about}: {score} after {result['wall_s']:.2f} s"


def sweep_lines(table: Mapping[str, Any]) -> list[str]:
    """The lines for a terminal, of what is in ``sweep.json``."""
    rows = [titles_of(table), *(cell_cells(table, row) for row in table["cells"])]
    return [*columns(rows), "", *verdict(table)]


def titles_of(table: Mapping[str, Any]) -> tuple[str, ...]:
    """Of what :func:`cell_cells` returns."""
    tested = ["test accuracy" if _is_share(table) else "test loss"] if table["by_validation"] else []
    return (
        *table["keys"], str(table["selected_by"]), *tested, "runs", "samples/s", "s per epoch", "peak memory", "",
    )  # fmt: skip


def cell_cells(table: Mapping[str, Any], row: Mapping[str, Any]) -> tuple[str, ...]:
    """A row of the table, as texts. Args: what is in ``sweep.json``, and one of its cells."""
    is_share, tested = _is_share(table), "test" if _is_share(table) else "test_loss"
    scores = [_score(row["score"], row["score_std"], is_share)]
    if table["by_validation"]:
        scores.append(_score(row[tested], row[f"{tested}_std"], is_share))
    ended = sum(score is not None for score in row["scores"])
    return (
        *(str(row["values"][key]) for key in table["keys"]), *scores, f"{ended} of {len(table['seeds'])}",
        grouped(row["samples_per_s"]), grouped(row["epoch_s"]), format_bytes(row["peak_bytes"]),
        "best" if row["cell"] == table["best"] else "",
    )  # fmt: skip


def _is_share(table: Mapping[str, Any]) -> bool:
    """Cells are compared by accuracy, and not by loss."""
    return str(table["selected_by"]).endswith("accuracy")


def _score(value: float | None, spread: float | None, is_share: bool) -> str:
    if value is None:
        return "-"
    shown = percent if is_share else grouped
    return f"{shown(value)}{'' if spread is None else f' +- {shown(spread)}'}{' %' if is_share else ''}"


def verdict(table: Mapping[str, Any]) -> list[str]:
    """Which cell is best by what, and what that is worth."""
    if table["best"] is None:
        return ["best: none, for no cell has completed all its runs"]
    lines = [f"best by {table['selected_by']}: {table['best']}"]
    if not table["by_validation"]:
        lines.append(
            "WARNING: THE BEST CELL WAS CHOSEN BY THE TEST SET, so its test figure is too good to be reported. Set "
            "dataset.validation=0.1 to choose by samples that are held out of the training set."
        )
    return lines
