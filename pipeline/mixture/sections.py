"""Completes ``[rule]`` and ``[optimizer]`` with the sections of single blocks, and gives each block its own."""

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from pipeline.config import NamedConfig
from pipeline.config.blocks import of_block, sections_by_block
from pipeline.errors import ConfigError

__all__ = ["completed", "for_blocks"]

T = TypeVar("T")


def completed(
    chosen: NamedConfig, check: Callable[[NamedConfig], NamedConfig], num_blocks: int, section: str
) -> NamedConfig:
    """``chosen`` with every option that has a default, those of blocks that name another thing included.

    Args:
        chosen: as the user wrote it.
        check: completes one choice; raises ConfigError where something is wrong with it.
        num_blocks: of the network.
        section: name of the section.

    Raises:
        ConfigError: what is wrong, with the blocks that it is for.
    """
    whole = check(chosen)
    if not chosen.blocks:
        return whole
    by_block = sections_by_block(chosen, num_blocks, section)
    blocks: dict[str, dict[str, Any]] = {}
    for text, own in chosen.blocks.items():
        first = next((k for k, found in by_block.items() if found == text), None)
        if first is None:
            raise ConfigError(
                f"a section is for no block (given: {section}.blocks.\"{text}\", expected: a block, a range or last). "
                "Correct or remove it."
            )
        inherited = of_block(NamedConfig(name=whole.name, options=whole.options, blocks=chosen.blocks),
                             first, num_blocks, section)  # fmt: skip
        with _named(section, text):
            found = check(inherited)
        if found.name != whole.name:
            blocks[text] = {"name": found.name, **found.options}
        else:
            blocks[text] = {k: v for k, v in found.options.items() if k in own}
            blocks[text] |= {"name": found.name} if "name" in own else {}
    return NamedConfig(name=whole.name, options=whole.options, blocks=blocks)


def for_blocks(
    chosen: NamedConfig, make: Callable[[NamedConfig], T], num_blocks: int, frozen: Collection[int]
) -> dict[int, T] | None:
    """The optimizer of each block that learns; None where they are all stepped alike.

    Args:
        chosen: the complete section.
        make: the optimizer of one choice.
        num_blocks: of the network.
        frozen: blocks that learn nothing.

    Raises:
        ConfigError: what is wrong with a choice, with the blocks that it is for.
    """
    if not chosen.blocks and not frozen:
        return None
    texts, found = sections_by_block(chosen, num_blocks, "optimizer"), {}
    for k in range(num_blocks):
        if k not in frozen:
            with _named("optimizer", texts.get(k)):
                found[k] = make(of_block(chosen, k, num_blocks, "optimizer"))
    return found


@contextmanager
def _named(section: str, text: str | None) -> Iterator[None]:
    """Says in a message which blocks' section is wrong; nothing of the section for all."""
    try:
        yield
    except ConfigError as error:
        raise error if text is None else ConfigError(f"{section}.blocks.\"{text}\": {error}") from None
