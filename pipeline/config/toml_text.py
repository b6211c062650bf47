"""Writes nested tables as TOML text; the standard library reads TOML and does not write it."""

import json
import re
from collections.abc import Mapping
from typing import Any

__all__ = ["to_toml"]


def to_toml(table: Mapping[str, Any], above: str = "") -> str:
    """``table`` (values, and sections of these) as TOML; ``tomllib.loads`` gives it back, ``None`` left out. Args:
    above, the header of the section that it is, followed by a dot."""
    lines = [f"{_key(k)} = {_value(v)}" for k, v in table.items() if not isinstance(v, Mapping) and v is not None]
    text = "".join(f"{line}\n" for line in lines)
    for name, section in table.items():
        if isinstance(section, Mapping):
            header = above + _key(name)
            text += f"\n[{header}]\n{to_toml(section, f'{header}.')}"
    return text


def _key(name: str) -> str:
    """A key, in quotes where it is more than letters, digits, dashes and underscores."""
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _value(name)


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
