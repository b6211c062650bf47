"""Blocks as a config names them: ``8``, ``0-3``, ``last``, ``6-last``, or several of these behind commas.

``[rule.blocks."0-3"]`` and ``[optimizer.blocks."8"]`` hold what is other for these blocks than in the section above
them; ``train.freeze`` and ``train.init_blocks`` name blocks as a value.
"""

import re
from collections.abc import Mapping
from typing import Any

from pipeline.config.sections import NamedConfig
from pipeline.errors import ConfigError
from pipeline.values import check_value

__all__ = ["INHERITED", "NAMES_BLOCKS", "names_of", "of_block", "parse_blocks", "read_blocks", "sections_by_block"]

NAMES_BLOCKS = ("rule", "optimizer")
"""Sections that may say something else for some of the blocks."""
INHERITED = {"optimizer": (
    "lr", "milestones", "gamma", "course", "warmup_steps", "final_fraction", "decay_share", "clip", "decay_on",
), "dataset": ("validation",)}  # fmt: skip
"""Options that every choice of a section has: they stay when another thing is named."""

_PART = re.compile(r"([0-9]{1,9}|last)(?:-([0-9]{1,9}|last))?")


def parse_blocks(text: str | int, num_blocks: int, key: str) -> list[int]:
    """The blocks that ``text`` names, in order.

    Args:
        text: as the user wrote it; "" for none.
        num_blocks: of the network.
        key: of the config, for error messages: ``train.freeze``.

    Raises:
        ConfigError: it cannot be read, or names a block twice or one that is not there.
    """
    found: list[int] = []
    for part in str(text).split(",") if text != "" else []:
        match = _PART.fullmatch(part.strip())
        if match is None:
            raise ConfigError(
                f"no blocks are named so (given: {key} has {part.strip()!r}, expected: a block, a range or last, e.g. "
                f"\"8\", \"0-3\", \"last\", \"0-1,last\"). Correct it."
            )
        first, until = (num_blocks - 1 if end == "last" else int(end) for end in (match[1], match[2] or match[1]))
        if first > until or until >= num_blocks:
            raise ConfigError(
                f"there are no such blocks (given: {key} has {part.strip()!r}, expected: rising, within 0 to "
                f"{num_blocks - 1}, which is the last). Correct it."
            )
        found += range(first, until + 1)
    twice = sorted(k for k in set(found) if found.count(k) > 1)
    if twice:
        raise ConfigError(f"a block is named twice (given: {key} has block {twice[0]} twice, in {text!r}). Correct it.")
    return sorted(found)


def read_blocks(name: str, options: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Takes the sections of single blocks out of the ``options`` of the section ``name``.

    Raises:
        ConfigError: they are no sections.
    """
    if name not in NAMES_BLOCKS or not isinstance(options.get("blocks"), Mapping):
        return {}
    found = options.pop("blocks")
    for blocks, section in found.items():
        key = f"{name}.blocks.\"{blocks}\""
        if not isinstance(section, Mapping):
            raise ConfigError(
                f"wrong value for {key} (given: {section!r}, expected: a section [{key}]). Change it."
            )
        check_value(section.get("name", ""), str, f"{key}.name")
    return {str(blocks): dict(section) for blocks, section in found.items()}


def names_of(chosen: NamedConfig) -> str:
    """What is chosen, for a message: ``predsim``, or ``predsim+backprop`` where some blocks have another."""
    return "+".join(dict.fromkeys([chosen.name, *(own["name"] for own in chosen.blocks.values() if "name" in own)]))


def sections_by_block(chosen: NamedConfig, num_blocks: int, section: str) -> dict[int, str]:
    """Which of ``chosen.blocks`` is for which block. Args: section, for error messages: ``rule``.

    Raises:
        ConfigError: a block that is not there, or two sections for one block.
    """
    found: dict[int, str] = {}
    for text in chosen.blocks:
        for k in parse_blocks(text, num_blocks, f"{section}.blocks"):
            if k in found:
                raise ConfigError(
                    f"two sections are for one block (given: {section}.blocks has block {k} in \"{found[k]}\" and in "
                    f"\"{text}\", expected: one). Correct one of them."
                )
            found[k] = text
    return found


def of_block(chosen: NamedConfig, block: int, num_blocks: int, section: str) -> NamedConfig:
    """What a block is to have: that of the whole section, but for what its own says.

    Under another name, the options are those of the block's own section alone, but for :data:`INHERITED`.

    Args:
        chosen: the section.
        block: its index.
        num_blocks: of the network.
        section: name of the section.

    Raises:
        ConfigError: see :func:`sections_by_block`.
    """
    if not chosen.blocks:
        return chosen
    text = sections_by_block(chosen, num_blocks, section).get(block)
    if text is None:
        return NamedConfig(name=chosen.name, options=chosen.options)
    own = dict(chosen.blocks[text])
    name = own.pop("name", chosen.name)
    kept = chosen.options
    if name != chosen.name:
        kept = {k: v for k, v in chosen.options.items() if k in INHERITED.get(section, ())}
    return NamedConfig(name=name, options={**kept, **own})
