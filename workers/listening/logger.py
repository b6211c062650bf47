"""Loggers by name: found, imported, and given the rows of a run."""

import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

from pipeline import registry
from pipeline.errors import ConfigError
from workers.listening.epochs import LoggedRun, LogRow, StepNews, log_rows

__all__ = ["Log", "loggers_named", "write_log"]

Log: TypeAlias = Callable[[LoggedRun, Iterator[LogRow]], None]
"""Writes rows for as long as there are any; runs in a thread of its own."""

_PACKAGE = "workers.loggers"


def loggers_named(names: Sequence[str]) -> list[tuple[str, Log]]:
    """Imports loggers.

    Args:
        names: of files of ``workers/loggers``, or dotted names of functions of one's own; several may stand in one
            text, with commas between.

    Raises:
        ConfigError: there is no such logger, it is named twice, or the package that it needs is not installed.
    """
    listed = [names] if isinstance(names, str) else names
    for given in listed:
        if not isinstance(given, str):
            raise ConfigError(
                f"a logger is named (given: {given!r}, expected: a name, or a dotted name of a function). Write that."
            )
    wanted = [name.strip() for text in listed for name in text.split(",")]
    twice = next((name for i, name in enumerate(wanted) if name in wanted[:i]), None)
    if twice is not None:
        raise ConfigError(f"a logger is named twice (given: --log {twice} and again). Leave one of them out.")
    return [(name, _load(name)) for name in wanted]


def _load(name: str) -> Log:
    try:
        log: Log = registry.load(_PACKAGE, name, "logger")
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"the logger {name!r} needs a package that is not installed (given: --log {name}, missing: "
            f"{error.name}). Install it: pip install 'onward-pipeline[{name}]', or leave the logger out."
        ) from None
    except ImportError as error:
        raise ConfigError(
            f"the package of the logger {name!r} cannot be imported (given: --log {name}, {error}). Repair it, or "
            "leave the logger out."
        ) from None
    try:
        inspect.signature(log).bind(None, None)
    except (TypeError, ValueError):
        raise ConfigError(
            f"not a logger (given: --log {name}, expected: a function of a run and its rows). Correct it."
        ) from None
    return log


def write_log(log: Log, run: LoggedRun, items: Iterator[str | StepNews]) -> None:
    """Has a logger write what it is told."""
    log(run, log_rows(items, run))
