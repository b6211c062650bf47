"""Figures as text: units, digits, spreads, Markdown tables."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from pipeline.records.number_text import grouped, percent

__all__ = ["bandwidth", "figures", "number", "numbers", "seconds", "share_text", "spread_text", "table"]


def table(head: Sequence[str], rows: Sequence[Sequence[str]], text_columns: int = 1) -> str:
    """Markdown; all columns but the first ones are numbers."""
    rule = ["---"] * text_columns + ["---:"] * (len(head) - text_columns)
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, rule, *rows))


def number(value: Any) -> float:
    """A figure, or the median of its spread."""
    return float(value["median"] if isinstance(value, Mapping) else value)


def figures(nested: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Every number or spread in nested tables, under its path."""
    for name, value in nested.items():
        if isinstance(value, Mapping) and "median" not in value:
            yield from ((f"{name}, {inner}", found) for inner, found in figures(value))
        elif isinstance(value, Mapping) or (isinstance(value, int | float) and not isinstance(value, bool)):
            yield name, value


def numbers(nested: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """:func:`figures` as text."""
    return ((name, spread_text(value)) for name, value in figures(nested))


def seconds(value: float) -> str:
    """A time in the unit that suits it."""
    for unit, factor in (("us", 1e6), ("ms", 1e3)):
        if value * factor < 1000:
            return f"{grouped(value * factor)} {unit}"
    return f"{grouped(value)} s"


def bandwidth(bytes_per_s: float) -> str:
    """Bytes per second in the decimal unit that suits them."""
    if bytes_per_s < 1e9:
        return f"{grouped(bytes_per_s / 1e6)} MB/s"
    return f"{grouped(bytes_per_s / 1e9)} GB/s"


def share_text(value: Any) -> str:
    """A share; ``-`` for None."""
    return "-" if value is None else f"{percent(number(value), digits=0)} %"


def spread_text(value: Any, show: Callable[[float], str] = grouped) -> str:
    """A figure; in brackets its least and most, where it was measured more than once; ``-`` for None."""
    if value is None:
        return "-"
    text = show(number(value))
    if not isinstance(value, Mapping) or value["min"] == value["max"]:
        return text
    return f"{text} ({show(value['min'])} to {show(value['max'])})"
