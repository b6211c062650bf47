"""Flags of the command line that mean nothing together, or nothing alone: all of them stand in the tables here."""

import argparse
import os
from typing import Any, NamedTuple

from pipeline.errors import ConfigError

__all__ = ["check_together"]


class _Look(NamedTuple):
    """A flag, and others that mean nothing beside it."""

    flag: str
    says: str
    """What is done in place of what the others ask for."""
    others: tuple[str, ...]


_OF_A_RUN = ("config", "mode", "stages", "transport", "out", "resume", "allow_changes", "trace", "log", "fresh")
_LOOKS_ONLY = ("plan", "against", "repeat", "generate")

_LOOKS = (
    _Look("report", "a report changes no run",
          ("evaluate", "predict", "sweep", "jobs", "device", "data_root", "init_from",
           *(flag for flag in _OF_A_RUN if flag != "out"), *_LOOKS_ONLY)),
    _Look("sweep", "a sweep starts several runs",
          ("evaluate", "predict", "against", "plan", "resume", "allow_changes", "log", "generate")),
    _Look("evaluate", "--evaluate trains nothing", ("predict", *_OF_A_RUN, *_LOOKS_ONLY)),
    _Look("predict", "--predict trains nothing", (*_OF_A_RUN, *_LOOKS_ONLY)),
    _Look("against", "a comparison starts several runs",
          ("plan", "resume", "trace", "allow_changes", "log", "generate")),
    _Look("init_from", "only a new run starts from another one", ("plan", "resume", "generate", "evaluate", "predict")),
    _Look("plan", "a plan generates nothing", ("generate",)),
    _Look("plan", "a plan resumes nothing", ("resume", "allow_changes")),
    _Look("plan", "a plan runs nothing", ("trace", "log")),
    _Look("generate", "text is made by one process on the CPU, which records nothing",
          ("out", "stages", "trace", "transport", "log", "allow_changes", "fresh", "device")),
)  # fmt: skip
"""In the order in which they are looked at."""

_NEEDS = (
    (("hosts", "link", "replicas", "device_speed"), ("plan",), "a run is not planned"),
    (("repeat",), ("against", "sweep"), "nothing is repeated"),
    (("jobs",), ("sweep",), "a run is one job"),
)
"""Flags, those of which they need one, and what is done without it."""

_SAME = "every rank would say the same (given: --evaluate or --predict under torchrun, expected: without)"
_ALONE = {
    "evaluate": _SAME, "predict": _SAME,
    "against": "a comparison starts its own processes (given: --against under torchrun, expected: without)",
    "sweep": "a sweep starts its own processes (given: --sweep under torchrun, expected: without)",
    "plan": "every rank would plan the same (given: --plan under torchrun, expected: without)",
    "generate": "every rank would write its own text (given: --generate under torchrun, expected: without)",
    "report": "every rank would write the same (given: --report under torchrun, expected: without)",
}  # fmt: skip
"""Flags that mean nothing to a rank of torchrun."""


def check_together(options: argparse.Namespace) -> None:
    """Refuses what contradicts itself or would be ignored.

    Args:
        options: of the command line.

    Raises:
        ConfigError: a flag means nothing beside another one, without another one or under torchrun, or lacks what it is
            about.
    """
    for flag, text in _ALONE.items():
        if "RANK" in os.environ and _is_given(getattr(options, flag)):
            raise ConfigError(f"{text}. Start it with python launch.py.")
    for flag, says, others in _LOOKS:
        given = [other for other in others if _is_given(getattr(options, other))]
        if given and _is_given(getattr(options, flag)):
            raise ConfigError(f"{says} (given: {_spelt(flag)} with {_spelt(given[0])}). Leave one of them out.")
    for flags, needed, says in _NEEDS:
        given = [flag for flag in flags if _is_given(getattr(options, flag))]
        if given and not any(_is_given(getattr(options, other)) for other in needed):
            raise ConfigError(
                f"{says} (given: {_spelt(given[0])} without {_spelt(needed[0])}). Add "
                f"{' or '.join(map(_spelt, needed))}, or leave it out."
            )
    _check_generate(options)
    _check_predict(options)
    if options.report is not None and options.overrides:
        raise ConfigError(
            f"a report changes no run (given: --report with {options.overrides[0]}). Leave one of them out."
        )


def _is_given(value: Any) -> bool:
    return value is not None and value is not False and value != []


def _spelt(name: str) -> str:
    """A flag as it is typed."""
    return "--" + name.replace("_", "-")


def _check_generate(options: argparse.Namespace) -> None:
    """Raises ConfigError where no run is named that text is to be made by, or no text is asked for."""
    if options.generate is not None and (options.resume is None or options.generate < 1):
        named = "no run" if options.resume is None else f"--resume {options.resume}"
        raise ConfigError(
            f"nothing can be generated (given: --generate {options.generate}, {named}; expected: at least 1, and "
            "--resume with the folder of a run on text). Name them."
        )


def _check_predict(options: argparse.Namespace) -> None:
    """Raises ConfigError where there is nothing to answer about, or something else than files."""
    if options.predict is not None and len(options.predict) < 2:
        raise ConfigError(
            f"there is nothing to answer about (given: --predict {options.predict[0]}, expected: files behind the "
            "run's folder). Name some."
        )
    if options.predict is not None and options.overrides:
        raise ConfigError(
            f"an answer has nothing to override (given: {options.overrides[0]!r}, expected: files behind the run's "
            "folder). Put --predict last."
        )
