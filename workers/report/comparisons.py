"""Sections about comparisons, from ``compare.json``."""

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.errors import ConfigError
from workers.comparison.text import TITLES, arm_cells, verdicts
from workers.report.given import tables
from workers.report.parts import Cell, Section, Table

__all__ = ["comparison_section"]

_FIRST_NUMBER = 3
"""Columns of words before those of numbers."""


def comparison_section(name: str, given: Mapping[str, Any], number: int) -> Section:
    """The arms of a comparison, and who wins by how much.

    Args:
        name: of its folder.
        given: what is in ``compare.json``.
        number: of the comparison on the page.

    Raises:
        ConfigError: it is not what a comparison writes.
    """
    try:
        rows = [arm_cells(str(arm), entry) for arm, entry in given["arms"].items()]
        said = verdicts(given)
        lost = [f"{row['arm']}, seed {row['seed']}: {row['error']}" for row in tables(given.get("failures"))]
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, StopIteration) as error:
        raise ConfigError(
            f"this is not what --against writes (given: compare.json of {name}, {type(error).__name__}: {error}). "
            "Repeat the comparison."
        ) from None
    arms = [[Cell(text, i >= _FIRST_NUMBER) for i, text in enumerate(row)] for row in rows]
    words: Sequence[Sequence[Cell]] = [[Cell(line)] for line in said]
    return Section(
        f"comparison-{number}", f"Comparison: {name}",
        "Medians of the rounds, but the mean of the test accuracies, with their standard deviation.",
        tables=[Table(TITLES, arms), *([Table([], words)] if words else [])],
        warning=f"Failed: {'; '.join(lost)}" if lost else "",
    )  # fmt: skip
