"""Numbers as text for people: counts, shares, durations, bytes."""

import math
from collections.abc import Sequence

__all__ = ["columns", "duration", "format_bytes", "grouped", "percent"]


def columns(lines: Sequence[Sequence[str]]) -> list[str]:
    """Lines of cells as text, a cell below the other. Args: lines, as many cells in each."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]


def grouped(value: float | None) -> str:
    """A number in three digits or more, thousands apart: ``0.0123``, ``1.23``, ``17 553``; ``-`` for None."""
    if value is None:
        return "-"
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    digits = min(max(0, 2 - math.floor(math.log10(abs(value)))), 6)
    return f"{value:,.{digits}f}".replace(",", " ")


def percent(share: float | None, *, digits: int = 2) -> str:
    """A share of one in per cent, without the sign; ``-`` for None.

    Args:
        share: 0.9722 for ``97.22``.
        digits: behind the point.
    """
    return "-" if share is None else f"{100 * share:.{digits}f}"


def duration(seconds: float, *, digits: int = 2) -> str:
    """Elapsed time: ``0.25 s``, ``12 s``, ``3 min 05 s``, ``2 h 07 min``.

    Args:
        seconds: at least 0.
        digits: behind the point, below 10 s.
    """
    if seconds < 10:
        return f"{seconds:.{digits}f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes == 0:
        return f"{rest} s"
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def format_bytes(count: float | None) -> str:
    """Bytes in binary units: ``1.5 MiB``; ``-`` for None. The only place where bytes are divided."""
    if count is None:
        return "-"
    for unit in ("B", "KiB", "MiB"):
        if abs(count) < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.2f} GiB"
