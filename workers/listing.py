"""``--list``: everything that there is to choose, and every option."""

import inspect
from collections.abc import Iterator, Mapping

from pipeline import registry
from pipeline.config import of_every_dataset, section_options
from pipeline.schedules.modes import MODES
from pipeline.values import describe

__all__ = ["list_lines"]

KINDS = {
    "rules": ("rule", "pipeline.rules"), "models": ("model", "pipeline.models"),
    "data sets": ("dataset", "pipeline.datasets"), "transports": ("transport", "workers.transports"),
}  # fmt: skip
"""The section of the config that names one, and the folder that has them."""
SHARED = {"data sets": of_every_dataset}
"""Whose options all of a kind have."""


def list_lines() -> Iterator[str]:
    """A line for each mode, rule, model, data set, transport, optimizer and logger, and for each option."""
    yield "modes:"
    for mode in MODES:
        yield f"  {mode.name:<16} {mode.summary}"
    for noun, (section, package) in KINDS.items():
        yield f"{noun}:"
        for name in registry.known(package):
            yield f"  {name:<16} {registry.summary(package, name)}"
            yield from _option_lines(section, registry.options_of(registry.load(package, name, noun)))
        if noun in SHARED:
            yield f"  every {noun.removesuffix('s')}"
            yield from _option_lines(section, registry.options_of(SHARED[noun]))
    yield "optimizers:"
    from pipeline.optim.optimizers import optimizer_options  # which imports torch
    from pipeline.optim.options import common_options

    for name, options in optimizer_options().items():
        yield f"  {name}"
        yield from _option_lines("optimizer", options)
    yield "  every optimizer"
    yield from _option_lines("optimizer", registry.options_of(common_options))
    yield "loggers:"
    for name in registry.known("workers.loggers"):
        yield f"  {name:<16} {registry.summary('workers.loggers', name)}"
    yield "other sections:"
    for section, options in section_options().items():
        yield from _option_lines(section, options)


def _option_lines(section: str, options: Mapping[str, inspect.Parameter]) -> Iterator[str]:
    """A line for each option of a thing: its key, what it takes, its default."""
    for key, option in options.items():
        default = "required" if option.default is option.empty else f"default: {option.default!r}"
        yield f"    {f'{section}.{key}':<26} {describe(option.annotation)}; {default}"
