"""``--against``: runs one config in several modes, in turns, and writes ``compare.json``."""

import argparse
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.config import Config
from pipeline.errors import ConfigError
from pipeline.network.from_modules import UserModel
from pipeline.records.files import write_json
from workers.comparison.arms import arms_of
from workers.comparison.summary import summary_of
from workers.comparison.text import comparison_lines, round_line
from workers.host.out_folder import check_out, unusable
from workers.placement import this_host
from workers.run import train
from workers.view import ViewMaker

__all__ = ["check_flags", "compare_modes", "rounds_of"]


def compare_modes(
    config: Config, against: Sequence[str], rounds: int = 1, *, out: Path, data_root: Path,
    model: UserModel | None = None, say: Callable[[str], None] = lambda _: None, make_view: ViewMaker | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Trains in the config's mode and in others, one after another in every round, and compares.

    Round n, counted from 0, has the seed ``config.seed + n`` in every arm, so initial weights and the order of the data
    are the same. Each run is in ``out/<mode>/seed-<seed>``.

    Args:
        config: of the first arm.
        against: modes of the others.
        rounds: times that each arm is run.
        out: a new or empty folder.
        data_root: where data sets are.
        model: in place of the config's.
        say: shows a line.
        make_view: shows each run; nothing is shown without.

    Returns:
        What stands in ``compare.json``: ``arms``, by mode, with ``test``, ``samples_per_s``, ``epoch_s``,
        ``peak_bytes`` and ``memory`` by kind; ``ratios``, of the first arm over each other; ``seeds``.

    Raises:
        ConfigError: something is wrong with the config or with an arm; nothing has run.
    """
    check_out(out)
    arms = arms_of(config, against, this_host(), data_root, model)
    results: dict[str, list[dict[str, Any]]] = {arm.name: [] for arm in arms}
    seeds = [config.seed + number for number in range(rounds)]
    for number, seed in enumerate(seeds, 1):
        for arm in arms:
            folder = out / arm.name / f"seed-{seed}"
            found = train(
                replace(arm.config, seed=seed), out=folder, data_root=data_root, model=model, make_view=make_view
            )
            results[arm.name].append(found)
            say(round_line(arm.name, number, rounds, found))
    table = {**summary_of(results), "seeds": seeds}
    try:
        write_json(out / "compare.json", table)
    except OSError as error:
        raise unusable(out, error) from None
    for line in comparison_lines(table):
        say(line)
    say(f"written: {out}/compare.json")
    return table


def check_flags(options: argparse.Namespace) -> None:
    """Flags of one run mean nothing to several.

    Raises:
        ConfigError: there is one, or a rank of torchrun is asked.
    """
    given = [f"--{name}" for name in ("plan", "resume", "trace") if getattr(options, name)]
    if given:
        raise ConfigError(f"a comparison starts several runs (given: --against with {given[0]}). Leave one out.")
    if "RANK" in os.environ:
        raise ConfigError(
            "a comparison starts its own processes (given: --against under torchrun, expected: without). Start it with "
            "python launch.py."
        )


def rounds_of(text: str | None) -> int:
    """The value of ``--repeat``.

    Raises:
        ConfigError: it is no number of rounds.
    """
    if text is None:
        return 1
    if not text.isdecimal() or not 1 <= int(text) <= 1000:
        raise ConfigError(f"wrong value for --repeat (given: {text!r}, expected: 1 to 1000). Change it.")
    return int(text)
