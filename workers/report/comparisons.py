"""Sections about comparisons and sweeps, from ``compare.json`` and ``sweep.json``."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pipeline.errors import ConfigError
from workers.comparison.text import arm_cells, arm_titles, is_by_loss, verdicts
from workers.report.given import tables
from workers.report.parts import Cell, Section, Table
from workers.sweep.text import cell_cells, titles_of, verdict

__all__ = ["table_section"]

_WORDS = 3
"""Columns of words of a comparison, before those of numbers."""


def table_section(file: str, name: str, given: Mapping[str, Any], number: int) -> Section:
    """A comparison or a sweep.

    Args:
        file: ``compare.json`` or ``sweep.json``.
        name: of its folder.
        given: what is in the file.
        number: of the section among those of its kind on the page.

    Raises:
        ConfigError: it is not what --against or --sweep writes.
    """
    make: Callable[[str, Mapping[str, Any], int], Section] = _comparison if file == "compare.json" else _sweep
    try:
        return make(name, given, number)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, StopIteration) as error:
        flag = "--against" if file == "compare.json" else "--sweep"
        raise ConfigError(
            f"this is not what {flag} writes (given: {file} of {name}, {type(error).__name__}: {error}). Run it again."
        ) from None


def _comparison(name: str, given: Mapping[str, Any], number: int) -> Section:
    """The arms of a comparison, and who wins by how much."""
    lost = [f"{row['arm']}, seed {row['seed']}: {row['error']}" for row in tables(given.get("failures"))]
    arms = [[Cell(text, i >= _WORDS) for i, text in enumerate(row)] for row in arm_cells(given)]
    return Section(
        f"comparison-{number}", f"Comparison: {name}",
        f"Medians of the rounds, but the mean of the test {'losses' if is_by_loss(given) else 'accuracies'}, with "
        "their standard deviation.",
        tables=[Table(arm_titles(given), arms), *_said(verdicts(given))], warning=_lost(lost),
    )  # fmt: skip


def _sweep(name: str, given: Mapping[str, Any], number: int) -> Section:
    """The cells of a sweep, and which is best by what."""
    lost = [f"{row['cell']}, seed {row['seed']}: {row['error']}" for row in tables(given.get("failures"))]
    words = len(given["keys"])
    cells = [
        [Cell(text, i >= words, row["cell"] == given["best"]) for i, text in enumerate(cell_cells(given, row))]
        for row in given["cells"]
    ]
    told = [*verdict(given), *([_lost(lost)] if lost else [])]
    return Section(
        f"sweep-{number}", f"Sweep: {name}",
        "The mean over the seeds of each cell, with their standard deviation; other figures are medians.",
        tables=[Table(titles_of(given), cells), *_said(told[:1])], warning=" ".join(told[1:]),
    )  # fmt: skip


def _said(lines: Sequence[str]) -> list[Table]:
    return [Table([], [[Cell(line)] for line in lines])] if lines else []


def _lost(lost: Sequence[str]) -> str:
    return f"Failed: {'; '.join(lost)}" if lost else ""
