"""Functions of the user's that a run calls with numbers: ``on_step``, ``on_epoch`` and ``on_end``."""

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from pipeline.errors import ConfigError, Stop, one_line
from pipeline.records.early_end import EarlyEnd
from workers.listening.epochs import LoggedRun, StepNews, events

__all__ = ["Hook", "Hooks"]

Hook: TypeAlias = Callable[[Mapping[str, Any]], object]
"""What a hook is: it is given a table of its own with numbers, and what it returns is not looked at."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Hooks:
    """The hooks of a run; see :func:`workers.front.train` for what each is given.

    Raises:
        ConfigError: one of them cannot be called.
    """

    on_step: Hook | None = None
    on_epoch: Hook | None = None
    on_end: Hook | None = None

    def __post_init__(self) -> None:
        for name, hook in vars(self).items():
            if hook is not None and not callable(hook):
                raise ConfigError(
                    f"a hook is a function of one table (given: {name}={hook!r}, expected: e.g. {name}=print). Pass "
                    "one."
                )

    def __bool__(self) -> bool:
        return any(hook is not None for hook in vars(self).values())

    def call(self, items: Iterator[str | StepNews], run: LoggedRun, early_end: EarlyEnd) -> None:
        """Calls the hooks for as long as there is something to tell.

        What a hook raises is told the first time, and it is called again all the same; :class:`pipeline.errors.Stop`
        asks for the end of the run.
        """
        failures = dict.fromkeys(vars(self), 0)
        for event, table in events(items, run):
            name = f"on_{event}"
            if (hook := getattr(self, name)) is None:
                continue
            try:
                hook(table)
            except Stop as stop:
                if early_end.reason is None:
                    early_end.reason = f"{name}: {one_line(stop)}"
            except BaseException as error:  # an exit too: nobody but the run itself ends this process
                failures[name] += 1
                if failures[name] == 1:
                    _tell(name, error)
        for name, count in failures.items():
            if count > 1:
                logger.warning("the hook %s has raised %d times", name, count)


def _tell(name: str, error: BaseException) -> None:
    """Says what a hook has raised, with its traceback."""
    logger.warning(
        "the hook %s has raised; training goes on, and so do its calls (%s: %s)", name, type(error).__name__, error,
        exc_info=error,
    )  # fmt: skip
