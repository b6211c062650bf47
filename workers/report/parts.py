"""Parts of a page: sections, and what stands in them. Texts are plain: the page escapes them."""

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Cell", "Panel", "Section", "Strip", "Swatch", "Table"]


@dataclass(frozen=True)
class Swatch:
    """An entry of a legend."""

    variable: str
    """Of CSS, that holds the colour."""
    text: str


@dataclass(frozen=True)
class Panel:
    """A drawing under its title."""

    title: str
    svg: str
    run: int | None = None
    """Place of the run that it is about, where it is about one."""
    is_small: bool = False
    """Several stand in a row, also on a narrow screen."""


@dataclass(frozen=True)
class Strip:
    """A drawing of rows, each with a label before it and a text behind it."""

    title: str
    svg: str
    run: int
    labels: Sequence[str]
    values: Sequence[str]
    ends: tuple[str, str]
    """What its left and right edges stand for."""


@dataclass(frozen=True)
class Cell:
    """One entry of a table."""

    text: str
    is_number: bool = False
    is_best: bool = False
    differs: bool = False


@dataclass(frozen=True)
class Table:
    """A table; its first column names the row."""

    titles: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    runs: Sequence[int | None] = ()
    """Place of the run that each row is about; empty where they are about none."""
    title: str = ""
    is_folded: bool = False

    @property
    def has_best(self) -> bool:
        """Some cell is marked."""
        return any(cell.is_best for row in self.rows for cell in row)


@dataclass(frozen=True)
class Section:
    """A section of the page."""

    name: str
    """Of its anchor."""
    title: str
    about: str = ""
    legend: Sequence[Swatch] = ()
    panels: Sequence[Panel] = ()
    strips: Sequence[Strip] = ()
    tables: Sequence[Table] = ()
    warning: str = ""
    is_folded: bool = False
    is_said: bool = False
    """What it is about is all that it says."""

    @property
    def is_empty(self) -> bool:
        """There is nothing in it."""
        return not (self.panels or self.strips or self.tables or self.warning or self.is_said)
