"""A published table as data: cells that are run, figures that are read off their runs, bands that accept a figure.

One cell may give several figures (the error after the first epoch and the best one), and a table's check may compare
figures of several cells. Nothing here runs anything.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal, Self

from pipeline.config import Config

__all__ = [
    "Band", "Cell", "Check", "Contrast", "Device", "Figure", "Found", "Metric", "Part", "Place", "PublishedTable",
    "in_order",
]  # fmt: skip

Device = Literal["cpu", "cuda"]

Metric = Callable[[Mapping[str, Any]], float | None]
"""A figure of one run as :mod:`benchmarks.accuracy.store` keeps it; None where the run does not have it."""

Place = tuple[str, str]
"""Row and column."""

_SLACK = 1e-9
"""Figures are decimal fractions in binary: 2.6 must be within a band that ends at 2.6."""


@dataclass(frozen=True)
class Band:
    """Accepted interval: ``least`` to ``most``, both included."""

    least: float = -math.inf
    most: float = math.inf

    @classmethod
    def around(cls, value: float, margin: float) -> Self:
        """``value`` give or take ``margin``."""
        return cls(round(value - margin, 9), round(value + margin, 9))

    def __contains__(self, value: float) -> bool:
        return self.least - _SLACK <= value <= self.most + _SLACK

    def __str__(self) -> str:
        if self.least == -math.inf:
            return f"at most {self.most:g}"
        return f"at least {self.least:g}" if self.most == math.inf else f"{self.least:g} to {self.most:g}"


@dataclass(frozen=True)
class Figure:
    """One entry of a table."""

    row: str
    column: str
    metric: Metric
    published: float | None = None
    band: Band | None = None
    """None: reported only."""
    reason: str = ""
    """Known reason for a measured value outside the band."""
    over: Callable[[Sequence[float]], float] = median
    """Of the seeds' values; at least one."""

    @property
    def place(self) -> Place:
        """Row and column."""
        return self.row, self.column


@dataclass(frozen=True)
class Cell:
    """One run, or one of several seeds, and the figures that it gives."""

    name: str
    """Name of its file."""
    config: Mapping[str, Any]
    """``section.key`` to value, as overrides are written, and ``seed`` left out."""
    figures: Sequence[Figure]
    seeds: Sequence[int] = (0,)
    device: Device = "cpu"
    limit_s: float = 3600.0
    """A run that takes longer is ended and counts as failed."""
    program: Sequence[str] = ()
    """Module, and arguments of its own, that is run in place of ``launch.py`` with the same flags."""
    by_block: bool = False
    """Keep the course of every block: its errors, parts of its steps, drift."""

    def nested(self, seed: int, quick: bool = False) -> dict[str, Any]:
        """The config as TOML has it.

        Args:
            seed: of the run.
            quick: two epochs at most, to see that it runs.
        """
        table: dict[str, Any] = {"seed": seed}
        placed = {"run.stages": 1, "run.threads": 1, "run.predict": False, "run.device": self.device}
        for key, value in {**placed, **self.config}.items():
            section, _, option = key.partition(".")
            table.setdefault(section, {})[option] = value
        if quick:
            _shorten(table)
        return table

    def checked(self, seed: int = 0, quick: bool = False) -> Config:
        """The config as an object.

        Raises:
            ConfigError: a section or a key that does not exist.
        """
        return Config.from_dict(self.nested(seed, quick))


QUICK_EPOCHS = 2


def _shorten(table: dict[str, Any]) -> None:
    """Leaves a config two epochs at most, and what counts epochs of a wave as large a share of them as before."""
    train, gate = table.setdefault("train", {}), table.get("gate", {})
    epochs = train.get("epochs", QUICK_EPOCHS)
    train["epochs"] = min(QUICK_EPOCHS, epochs)
    for key in gate.keys() & {"delay", "ramp", "train_for"}:
        gate[key] *= train["epochs"] / epochs


@dataclass(frozen=True)
class Check:
    """A statement about several figures: the difference of every pair lies within the band."""

    about: str
    pairs: Sequence[tuple[Place, Place]]
    band: Band | None
    """None: the differences are reported only."""


@dataclass(frozen=True)
class Found:
    """What there is to be read of a table."""

    completed: Callable[[Cell], Sequence[Mapping[str, Any]]]
    """Runs of a cell that count."""
    counted: Mapping[str, Mapping[str, Any]]
    """By row, what :mod:`benchmarks.arithmetic` has counted without a run; empty where it has not been asked."""


Part = Callable[[Found], str]
"""A further part of a table's page as Markdown; empty where nothing of it is known."""


@dataclass(frozen=True)
class Contrast:
    """Two figures that are compared seed by seed, the one less the other; less is better."""

    about: str
    """Where both were taken: "at 18 rounds"."""
    first: Place
    second: Place


@dataclass(frozen=True)
class PublishedTable:
    """Cells that stand side by side."""

    name: str
    title: str
    source: str
    cells: Sequence[Cell]
    checks: Sequence[Check] = ()
    note: str = ""
    """Remark that a reader needs to judge the figures."""
    parts: Sequence[Part] = ()
    """What the page says besides, in this order."""
    contrasts: Sequence[Contrast] = ()

    def figures(self) -> dict[Place, tuple[Cell, Figure]]:
        """Every entry with the cell that gives it."""
        return {figure.place: (cell, figure) for cell in self.cells for figure in cell.figures}

    def rows(self) -> list[str]:
        """Rows, in the order of their first figures."""
        return list(dict.fromkeys(row for row, _ in self.figures()))

    def columns(self) -> list[str]:
        """Columns, in the order of their first figures."""
        return list(dict.fromkeys(column for _, column in self.figures()))


def in_order(about: str, column: str, groups: Sequence[Sequence[str]], slack: float = 0.0) -> Check:
    """Check that each row's figure is below those of all rows of the next group.

    Args:
        about: the statement.
        column: in which.
        groups: of rows; within a group any order will do.
        slack: by how much a figure may be above one that it should be below.
    """
    pairs = [
        ((low, column), (high, column))
        for lower, higher in zip(groups, groups[1:], strict=False) for low in lower for high in higher
    ]  # fmt: skip
    return Check(about, pairs, Band(most=slack))
