"""Values out of files that anybody may have written: a number, a text, a table, or nothing."""

import math
from collections.abc import Mapping
from typing import Any

__all__ = ["flat", "number", "table", "tables", "text"]


def number(value: Any) -> float | None:
    """``value`` where it is a finite number, else None."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    try:
        return float(value) if is_number and math.isfinite(value) else None
    except OverflowError:  # a whole number that no float holds
        return None


def text(value: Any) -> str:
    """``value`` as text; ``-`` for None."""
    return "-" if value is None else str(value)


def table(value: Any) -> Mapping[str, Any]:
    """``value`` where it is a table, else an empty one."""
    return value if isinstance(value, Mapping) else {}


def tables(value: Any) -> list[Mapping[str, Any]]:
    """The tables in a list; empty where it is none."""
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []


def flat(nested: Mapping[str, Any]) -> dict[str, Any]:
    """``{"rule": {"name": "pred"}}`` as ``{"rule.name": "pred"}``."""
    found: dict[str, Any] = {}
    for key, value in nested.items():
        inside = flat(value) if isinstance(value, Mapping) else None
        found |= {str(key): value} if inside is None else {f"{key}.{name}": item for name, item in inside.items()}
    return found
