"""Writes nested tables as TOML text; the standard library reads TOML and does not write it."""

import json
from collections.abc import Mapping
from typing import Any

__all__ = ["to_toml"]


def to_toml(table: Mapping[str, Any]) -> str:
    """``table`` (values, and one level of sections) as TOML; ``tomllib.loads`` gives it back, ``None`` left out."""
    lines = [f"{k} = {_value(v)}" for k, v in table.items() if not isinstance(v, Mapping) and v is not None]
    for name, section in table.items():
        if isinstance(section, Mapping):
            lines += ["", f"[{name}]"]
            lines += [f"{k} = {_value(v)}" for k, v in section.items() if v is not None]
    return "\n".join(lines) + "\n"


def _value(value: Any) -> str:
    """One value. JSON's text and TOML's basic strings escape alike, but for one control character."""
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_value(v) for v in value) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, int):
        return str(value)
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
