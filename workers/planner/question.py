"""The question of ``--plan``, from its flags as they were typed."""

import argparse
from pathlib import Path

from pipeline.config import Config
from pipeline.errors import ConfigError
from pipeline.resolve import resolve
from workers.planner.links import Question, parse_link, parse_replicas, parse_stages

__all__ = ["question_of"]


def question_of(options: argparse.Namespace, config: Config, data_root: Path) -> Question:
    """Reads the flags.

    Args:
        options: ``stages``, ``hosts``, ``link``, ``replicas``, ``device_speed``; None is one that was not given.
        config: of the runs.
        data_root: where data sets are.

    Raises:
        ConfigError: one of them cannot be read, or the config is wrong.
    """
    hosts, link, replicas, device_speed = options.hosts, options.link, options.replicas, options.device_speed
    asked = parse_link(link) if link is not None else None
    count = _number("--hosts", hosts or "1", "a whole number from 1")
    if count != int(count):
        raise _unreadable("--hosts", hosts, "a whole number from 1")
    speed = _number("--device-speed", device_speed or "1.0", "a number above 0")
    wanted = parse_replicas(replicas) if replicas is not None else (1,)
    counts = parse_stages(options.stages, resolve(config, data_root).num_blocks)
    return Question(counts, int(count), asked, wanted, speed)


def _number(flag: str, text: str, expected: str) -> float:
    """A number above 0, up to a million."""
    try:
        value = float(text)
    except ValueError:
        raise _unreadable(flag, text, expected) from None
    if not 0 < value <= 1e6:
        raise _unreadable(flag, text, expected)
    return value


def _unreadable(flag: str, text: str | None, expected: str) -> ConfigError:
    return ConfigError(f"cannot read {flag} (given: {flag} {text!r}, expected: {expected}). Correct it.")
