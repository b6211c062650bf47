"""``--sweep``: runs one config over the values of some keys, and writes ``sweep.json``."""

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.config import Config
from pipeline.errors import ConfigError, SomeRunsFailed, one_line
from pipeline.records.result_file import if_completed
from pipeline.resolve import resolve
from workers.comparison.command import rounds_of
from workers.flag_parser import whole_number
from workers.host.out_folder import check_out, claimed, unusable
from workers.placement import Host, place, this_host
from workers.sweep.axes import Cell, Grid
from workers.sweep.cell_run import CellRun, check_same
from workers.sweep.pool import run_all
from workers.sweep.results import FILE, Results
from workers.sweep.text import run_line, sweep_lines
from workers.view.text import plural

__all__ = ["asked", "run_sweep"]

Job = tuple[Cell, int]
"""A cell and a seed."""


def run_sweep(
    grid: Grid, repeat: int, jobs: int, *, out: Path, data_root: Path, say: Callable[[str], None]
) -> dict[str, Any]:
    """Runs every cell of the grid with every seed, several at once; each run is in ``out/<cell>/seed-<seed>``.

    A folder that has a sweep of the same keys is gone on with: runs that have completed are kept, and those that were
    cut short are taken up.

    Args:
        grid: what is run.
        repeat: seeds of each cell, from the config's own on.
        jobs: runs at once.
        out: a new or empty folder, or that of the sweep.
        data_root: where data sets are.
        say: shows a line.

    Returns:
        What is in ``sweep.json``.

    Raises:
        ConfigError: something is wrong with a key, a value, a cell or the folder; nothing has run.
        SomeRunsFailed: a run failed; the others have run, and ``sweep.json`` is written.
    """
    cells = [_placed(cell, data_root, jobs) for cell in grid.cells()]
    keys, seeds = list(grid.axes()), [grid.config.seed + number for number in range(repeat)]
    is_ours = _is_ours(out, keys)
    with claimed(out, is_new=not is_ours):
        results = Results(keys, cells, seeds, out)
        left = _left(results, cells, seeds, say)
        try:
            results.write()
            _run(left, results, jobs, data_root, len(cells) * len(seeds), say)
        except (KeyboardInterrupt, SystemExit) as error:
            error.add_note(f"What has completed is in {out}/{FILE}. Go on with the same command and --out {out}.")
            raise
        except OSError as error:
            raise unusable(out, error) from None
    for line in sweep_lines(results.table):
        say(line)
    say(f"written: {out}/{FILE}")
    if failures := results.failures:
        raise SomeRunsFailed(
            f"{len(failures)} of {len(cells) * len(seeds)} runs failed; the first: {failures[0]['cell']}, seed "
            f"{failures[0]['seed']}: {failures[0]['error'].rstrip('.')}. The others are in {out}/{FILE}; the same "
            f"command with --out {out} tries these again."
        )
    return results.table


def _placed(cell: Cell, data_root: Path, jobs: int) -> Cell:
    """The cell with stages and threads of its own share of the cores, checked before anything runs.

    Threads are part of what is learned, to the last bit, so they must not depend on what else runs.
    """
    host = this_host()
    share = Host(max(1, host.cores // jobs), host.num_gpus)
    try:
        resolved = resolve(cell.config, data_root)
        config = resolved.config  # with the defaults of all options
        # How many stages there are does not depend on what their blocks cost, and measuring that takes time.
        by = "parameters" if config.run.partition == "measured" else config.run.partition
        placement = place(replace(resolved, config=replace(config, run=replace(config.run, partition=by))), share)
    except ConfigError as error:
        raise ConfigError(f"the cell {cell.name} cannot run: {one_line(error)}") from None
    run = replace(config.run, stages=placement.num_stages, threads=placement.threads)
    return replace(cell, config=replace(config, run=run))


def _is_ours(out: Path, expected: Sequence[str]) -> bool:
    """Whether a sweep of these keys is in the folder; False where it is new or empty.

    Raises:
        ConfigError: something else is in it.
    """
    try:
        table = json.loads((out / FILE).read_text(encoding="utf8"))
    except FileNotFoundError:
        check_out(out)
        return False
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot go on with a sweep (given: {out}/{FILE}, {error}). Choose another --out.") from None
    held = table.get("keys") if isinstance(table, dict) else None
    keys = list(held) if isinstance(held, dict) else []
    if keys != expected:
        raise ConfigError(
            f"the folder has a sweep of other keys (given: {', '.join(expected)}; there: {', '.join(keys)}). Choose "
            "another --out."
        )
    return True


def _left(results: Results, cells: Sequence[Cell], seeds: Sequence[int], say: Callable[[str], None]) -> list[Job]:
    """The runs that have not completed, the first seed of every cell before any second one."""
    left = []
    for seed in seeds:
        for cell in cells:
            folder = results.folder(cell, seed)
            check_same(cell, seed, folder)
            if (result := if_completed(folder)) is None:
                left.append((cell, seed))
            else:
                results.add(cell, seed, {"result": result})
    total = len(cells) * len(seeds)
    there = f", of which {total - len(left)} have completed" if total > len(left) else ""
    say(f"{plural(len(cells), 'cell')} x {plural(len(seeds), 'seed')}: {plural(total, 'run')}{there}")
    return left


def _run(
    left: Sequence[Job], results: Results, jobs: int, data_root: Path, total: int, say: Callable[[str], None]
) -> None:
    """Runs what is left of so many runs."""
    done = total - len(left)

    def keep(job: Job, outcome: dict[str, Any]) -> None:
        """Writes down what a run has come to."""
        nonlocal done
        done += 1
        results.add(*job, outcome)
        results.write()
        say(run_line(job[0].name, job[1], f"{done}/{total}", outcome))

    run_all(left, jobs, lambda job: CellRun.start(*job, results.folder(*job), data_root), keep)


def asked(options: argparse.Namespace, config: Config, overrides: Sequence[str]) -> tuple[Grid, int, int]:
    """The grid, seeds of each cell, and runs at once.

    Args:
        options: ``sweep``, ``repeat``, ``jobs``, as they were typed.
        config: of every cell, but for its own values.
        overrides: of the same command.

    Raises:
        ConfigError: one of them cannot be read, or does not fit this host.
    """
    return Grid(config, options.sweep, overrides), rounds_of(options.repeat), _jobs_of(options.jobs)


def _jobs_of(text: str | None) -> int:
    """The value of ``--jobs``: runs at once.

    Raises:
        ConfigError: it is no number of runs, or there are more than cores.
    """
    cores = this_host().cores
    if text is None:
        return 1
    if (jobs := whole_number(text, cores)) is None:
        raise ConfigError(
            f"wrong value for --jobs (given: {text!r}, expected: 1 to {cores}, for there are {cores} cores). Change it."
        )
    return jobs
