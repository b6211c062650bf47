"""The grid of a sweep: keys and their values as they were written, and the cells that they span."""

import hashlib
import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.config import Config
from pipeline.errors import ConfigError

__all__ = ["Cell", "Grid"]

_LONGEST_NAME = 100
_MOST_CELLS = 10_000


@dataclass(frozen=True)
class Cell:
    """One choice of values."""

    name: str
    """Of its folder."""
    values: Mapping[str, Any]
    """By ``section.key``."""
    config: Config


@dataclass(frozen=True)
class Grid:
    """A config, and what is swept of it.

    Args:
        config: of every cell, but for its own values.
        given: ``section.key=value,value`` for each key.
        overrides: of the same command.
    """

    config: Config
    given: Sequence[str]
    overrides: Sequence[str] = ()

    def axes(self) -> dict[str, list[str]]:
        """Keys and the texts of their values.

        Raises:
            ConfigError: one cannot be read, is given twice, or has no value.
        """
        axes: dict[str, list[str]] = {}
        fixed = {override.partition("=")[0] for override in self.overrides}
        for text in self.given:
            key, values = _read(text)
            if key in axes or key in fixed:
                raise ConfigError(f"a key is given twice (given: {key}, expected: once, in --sweep). Leave one out.")
            axes[key] = values
        return axes

    def cells(self) -> list[Cell]:
        """All choices of values, the first key's values outermost.

        Raises:
            ConfigError: a key or a value is wrong, two values are the same, or there are too many cells.
        """
        axes = self.axes()
        if (count := math.prod(map(len, axes.values()))) > _MOST_CELLS:
            raise ConfigError(f"too many cells (given: {count}, expected: at most {_MOST_CELLS}). Sweep fewer values.")
        for key, texts in axes.items():
            seen = {repr(_value(self.config.overridden([f"{key}={text}"]), key)) for text in texts}
            if len(seen) < len(texts):
                raise ConfigError(
                    f"a value is given twice (given: --sweep {key}={','.join(texts)}; expected: each once). Leave one "
                    "out."
                )
        return [self._cell(dict(zip(axes, chosen, strict=True))) for chosen in itertools.product(*axes.values())]

    def _cell(self, chosen: Mapping[str, str]) -> Cell:
        config = self.config.overridden([f"{key}={text}" for key, text in chosen.items()])
        values = {key: _value(config, key) for key in chosen}
        return Cell(_name(values), values, config)


def _read(text: str) -> tuple[str, list[str]]:
    """The key and the values of ``section.key=value,value``; ConfigError where it cannot be read."""
    key, equals, listed = text.partition("=")
    values = [value.strip() for value in _split(listed)]
    if not equals or not key or not all(values):
        raise ConfigError(
            f"cannot read what is swept (given: --sweep {text!r}, expected: section.key=value,value, e.g. "
            "optimizer.lr=1e-3,3e-3). Correct it."
        )
    if key == "seed":
        raise ConfigError(
            f"seeds are no values to choose between (given: --sweep {text}, expected: --repeat N, which takes seed, "
            "seed + 1 and so on). Use that."
        )
    return key, values


def _split(text: str) -> Iterator[str]:
    """Parts between commas, those within brackets, braces or quotes left whole."""
    depth, quote, part = 0, "", ""
    for sign in text:
        if quote:
            quote = "" if sign == quote else quote
        elif sign in "\"'":
            quote = sign
        else:
            depth += (sign in "[{") - (sign in "]}")
        if sign == "," and depth == 0 and not quote:
            yield part
            part = ""
        else:
            part += sign
    yield part


def _value(config: Config, key: str) -> Any:
    table = config.to_dict()
    section, _, option = key.partition(".")
    return table[section][option] if option else table[section]


def _name(values: Mapping[str, Any]) -> str:
    """``optimizer.lr=0.001,rule.beta=0.9``; with a digest where it would not do as a folder's name."""
    full = ",".join(f"{key}={value}" for key, value in values.items())
    plain = re.sub(r"[^\w.,=+-]", "_", full, flags=re.ASCII)
    if plain == full and len(full) <= _LONGEST_NAME:
        return full
    return f"{plain[:_LONGEST_NAME]}-{hashlib.sha256(full.encode('utf8', 'replace')).hexdigest()[:8]}"
