"""Ranges of numeric options, declared in their annotations: ``beta: Annotated[float, Range(0, 1)]``.

One declaration is what a value is checked against, what an error message says and what ``--list`` shows. A contract
test finds every numeric option that has none. Only finite numbers lie in a range.
"""

import dataclasses
import typing
from dataclasses import dataclass
from typing import Annotated, Any

from pipeline.errors import ConfigError

__all__ = [
    "LARGEST", "MOST_COUNTED", "Count", "Natural", "NonNegative", "Positive", "Range", "Seconds", "Seed",
    "Share", "check_fields", "outside", "range_of",
]  # fmt: skip

MOST_COUNTED = 2**31 - 1
"""More of anything than fits: products of two of them still fit into 64 bits."""
LARGEST = 1e30
"""Of numbers without a bound of their own: what float32 holds, with room."""


@dataclass(frozen=True, slots=True)
class Range:
    """The numbers from ``low`` to ``high``, both included unless said otherwise."""

    low: float
    high: float
    above: bool = False
    """``low`` itself is out of range."""
    below: bool = False
    """``high`` itself is out of range."""

    def __contains__(self, value: float) -> bool:
        """False for nan and infinity, too."""
        high_enough = value > self.low if self.above else value >= self.low
        return high_enough and (value < self.high if self.below else value <= self.high)

    def __str__(self) -> str:
        low, high = _spell(self.low), _spell(self.high)
        return f"{'above' if self.above else 'at least'} {low}, {'below' if self.below else 'at most'} {high}"


def _spell(bound: float) -> str:
    """A bound as a config would have it: ``2147483647``, ``0.5``, ``1e6``."""
    return str(bound) if isinstance(bound, int) else f"{bound:g}".replace("e+0", "e").replace("e+", "e")


Count = Annotated[int, Range(1, MOST_COUNTED)]
"""Of things of which there is one at least."""
Natural = Annotated[int, Range(0, MOST_COUNTED)]
"""Of things of which there may be none; 0 often stands for a default."""
Seed = Annotated[int, Range(0, 2**63 - 1)]
NonNegative = Annotated[float, Range(0, LARGEST)]
Positive = Annotated[float, Range(0, LARGEST, above=True)]
Share = Annotated[float, Range(0, 1)]
Seconds = Annotated[float, Range(0, 1e6, above=True)]
"""Of a wait: the system's own waits take no number without bound."""


def range_of(annotation: Any) -> Range | None:
    """The range that ``Annotated`` carries; None where it carries none, or is another annotation."""
    if typing.get_origin(annotation) is not Annotated:
        return None
    return next((m for m in typing.get_args(annotation)[1:] if isinstance(m, Range)), None)


def check_fields(section: Any, name: str) -> None:
    """Check the numbers of a section of the config, a dataclass whose fields are annotated with their ranges.

    Args:
        section: the object.
        name: what its keys begin with, for error messages: ``train.``.

    Raises:
        ConfigError: a number is out of its range.
    """
    hints = typing.get_type_hints(type(section), include_extras=True)
    for field in dataclasses.fields(section):
        value = getattr(section, field.name)
        wrong = outside(value, hints[field.name])
        if wrong is not None:
            raise ConfigError(
                f"wrong value for {name}{field.name} (given: {value}, expected: {wrong}). Change it."
            )


def outside(value: Any, annotation: Any) -> str | None:
    """What the range of a value, or of the items of a list, demands where that is not met."""
    found = range_of(annotation)
    if found is not None:
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return str(found) if is_number and value not in found else None
    arguments = typing.get_args(annotation)
    if isinstance(value, (list, tuple)):
        ranges = [a for nested in arguments for a in (nested, *typing.get_args(nested))]
        return next((f"each {text}" for item in value for a in ranges if (text := outside(item, a))), None)
    return next((text for nested in arguments if (text := outside(value, nested))), None)
