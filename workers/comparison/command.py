"""``--against``: runs one config in several modes, in turns, and writes ``compare.json``."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from operator import index
from pathlib import Path
from typing import Any

from pipeline.config import Config
from pipeline.errors import ConfigError, DiskError, NonFiniteError, WorkerFailed
from pipeline.network.from_modules import UserModel
from workers.comparison.arms import Arm, arms_of
from workers.comparison.results import Results
from workers.comparison.text import comparison_lines, failure_line, round_line
from workers.flag_parser import whole_number
from workers.host.out_folder import check_out, unusable
from workers.placement import this_host
from workers.run import train
from workers.view import ViewMaker

__all__ = ["compare_modes", "rounds_of"]


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
        ``peak_bytes`` (None in this very process) and ``memory`` by kind; ``ratios``, of the first arm over each other;
        ``seeds`` and ``order`` of the rounds; ``failures``.

    Raises:
        ConfigError: something is wrong with the config or with an arm; nothing has run.
        WorkerFailed, NonFiniteError, DiskError: a run failed; the others have run, and ``compare.json`` is written.
    """
    rounds = _counted(rounds)
    check_out(out)
    arms = arms_of(config, against, this_host(), data_root, model)
    results = Results(arms, out)
    start = partial(train, data_root=data_root, model=model, make_view=make_view)
    for number in range(rounds):
        for arm in results.begin(config.seed + number):
            _run(arm, results, start, f"{number + 1}/{rounds}", say)
        try:
            results.write()
        except OSError as error:
            if number + 1 == rounds:
                raise unusable(out, error) from None
    for line in comparison_lines(results.table):
        say(line)
    say(f"written: {out}/compare.json")
    if results.first_error is not None:
        results.first_error.add_note(f"The other runs are compared in {out}/compare.json.")
        raise results.first_error
    return results.table


def _counted(rounds: int) -> int:
    """How many; raises ConfigError where that is no number of rounds."""
    try:
        found = index(rounds)
    except TypeError:
        raise ConfigError(
            f"rounds are counted (given: {rounds!r}, expected: a whole number from 1). Change it."
        ) from None
    if found < 1:
        raise ConfigError(f"nothing would run (given: {found} rounds, expected: at least 1). Change it.")
    return found


def _run(
    arm: Arm, results: Results, start: Callable[..., dict[str, Any]], turn: str, say: Callable[[str], None]
) -> None:
    """One run of one arm; where it fails the others go on."""
    try:
        found = start(replace(arm.config, seed=results.seed), out=results.folder(arm))
    except (WorkerFailed, NonFiniteError, DiskError) as error:
        results.add_failure(arm, error)
        say(failure_line(arm.name, turn, error))
    else:
        results.add(arm, found)
        say(round_line(arm.name, turn, found))


def rounds_of(text: str | None) -> int:
    """The value of ``--repeat``.

    Raises:
        ConfigError: it is no number of rounds.
    """
    if text is None:
        return 1
    if (rounds := whole_number(text, 1000)) is None:
        raise ConfigError(f"wrong value for --repeat (given: {text!r}, expected: 1 to 1000). Change it.")
    return rounds
