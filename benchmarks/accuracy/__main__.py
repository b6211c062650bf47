"""Runs published tables and prints what comes out beside what was published.

    python -m benchmarks.accuracy --list
    python -m benchmarks.accuracy --table lra-table1 --cells 'lra_fdbk-*' --jobs 2
    python -m benchmarks.accuracy --table mertens --quick

A cell that has run is not run again unless its config changed; one that failed is. Ctrl-C ends what goes on and keeps
what has ended.
"""

import argparse
import fnmatch
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
import torch

from benchmarks.accuracy.cell import Cell, PublishedTable
from benchmarks.accuracy.page import render
from benchmarks.accuracy.pool import AccuracyJob, run_all
from benchmarks.accuracy.store import Store
from benchmarks.harness import leave_on_sigterm
from benchmarks.published import TABLES
from pipeline import registry
from pipeline.config import Config
from pipeline.errors import ConfigError
from pipeline.places import default_data_root

ROOT = Path(__file__).resolve().parent.parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "accuracy"
QUICK_RESULTS = ROOT / "runs" / "accuracy-quick"
"""Apart from the results, and not in the repository."""


class Machine:
    """Devices and data sets of this machine, which decide the cells it can run.

    Args:
        data_root: where data sets are.
    """

    def __init__(self, data_root: Path) -> None:
        self.data_root = data_root
        self._data: dict[str, bool] = {}

    def lacks(self, cell: Cell) -> str | None:
        """Reason that a cell cannot be run; None where it can."""
        if not self._has_data(cell.checked()):
            return "data not reachable offline"
        return "needs a GPU" if cell.device == "cuda" and not torch.cuda.is_available() else None

    def _has_data(self, config: Config) -> bool:
        """True if the data set is present; it is not downloaded."""
        key = repr(config.dataset)
        if key not in self._data:
            self._data[key] = _is_there(config, self.data_root)
        return self._data[key]


def _is_there(config: Config, data_root: Path) -> bool:
    """True if the data set can be loaded; an unknown option counts as loadable and fails as a run."""
    try:
        build = registry.load("pipeline.datasets", config.dataset.name, "data set")
        options = registry.check_options(build, config.dataset.options, "dataset")
    except ConfigError:
        return True
    try:
        build(data_root, **{**options, **({"download": False} if "download" in options else {})})
    except ConfigError:
        return False
    return True


def _at_least_one(text: str) -> int:
    """A number on the command line."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"wrong number (given: {text}, expected: 1 or more). Change it.")
    return int(text)


def _tables(text: str) -> list[str]:
    """The table of that name, or those of a family: ``gated`` stands for ``gated-xor`` and its like."""
    found = [text] if text in TABLES else [name for name in TABLES if name.startswith(f"{text}-")]
    if not found:
        raise argparse.ArgumentTypeError(f"no such table (given: {text}, expected: {', '.join(TABLES)}). Change it.")
    return found


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accuracy", description=__doc__.partition("\n")[0])
    parser.add_argument("--table", action="extend", type=_tables, metavar="NAME",
                        help="one, or all whose names begin with NAME and a dash; default: all")
    parser.add_argument("--list", action="store_true", help="the tables and how much of each has been run")
    parser.add_argument("--print", action="store_true", help="run nothing")
    parser.add_argument("--quick", action="store_true", help="two epochs, one seed, kept apart: to see that it runs")
    parser.add_argument("--cells", default="*", metavar="GLOB", help="only those; --list --table NAME has the names")
    parser.add_argument("--seeds", type=_at_least_one, metavar="N", help="at most so many of each cell")
    parser.add_argument("--jobs", type=_at_least_one, metavar="N", help="runs at once; default: cores; 1 on a GPU")
    parser.add_argument("--out", type=Path, metavar="DIR", help="of the result files")
    parser.add_argument("--data-root", type=Path, metavar="DIR", help="default: $ONWARD_DATA, else ~/.cache/onward")
    return parser.parse_args(arguments)


def show_list(tables: Sequence[PublishedTable], store: Store, glob: str, *, cells: bool) -> None:
    """``--list``: a line for each table, or for each cell of those that were named."""
    for table in tables:
        done = sum(not store.missing(table, cell, cell.seeds) for cell in table.cells)
        print(f"{table.name:<24} {done:>3} of {len(table.cells):>3} cells  {table.title}")
        for cell in matching(table, glob) if cells else ():
            ran = len(store.completed(table, cell))
            print(f"    {cell.name:<36} {cell.device:<4} {ran} of {len(cell.seeds)} seeds")


def matching(table: PublishedTable, glob: str) -> list[Cell]:
    """The cells whose names match."""
    return [cell for cell in table.cells if fnmatch.fnmatchcase(cell.name, glob)]


def jobs_of(
    tables: Sequence[PublishedTable], store: Store, machine: Machine, options: argparse.Namespace
) -> list[AccuracyJob]:
    """Missing runs that this machine can do, table by table, the first seed of every cell before any second one."""
    seeds = 1 if options.quick else options.seeds
    jobs = [
        AccuracyJob(table, cell, seed) for table in tables for cell in matching(table, options.cells)
        if machine.lacks(cell) is None for seed in store.missing(table, cell, cell.seeds[:seeds])
    ]  # fmt: skip
    return sorted(jobs, key=lambda job: job.seed)


def run(jobs: Sequence[AccuracyJob], store: Store, machine: Machine, options: argparse.Namespace) -> int:
    """Runs jobs, first those on the CPU; returns how many failed."""
    failed = ended = 0

    def keep(job: AccuracyJob, found: dict[str, Any]) -> None:
        nonlocal failed, ended
        store.add(job.table, job.cell, found)
        good = found["status"] == "completed"
        failed, ended = failed + (not good), ended + 1
        what = _scored(found) if good else f"failed: {found['error']}"
        name = f"{job.table.name}/{job.cell.name}, seed {job.seed}, {found['wall_s']:.0f} s"
        print(f"[{ended}/{len(jobs)}] {name}: {what}", flush=True)

    cores = psutil.cpu_count(logical=False) or os.cpu_count() or 1
    for device, limit in (("cpu", options.jobs or cores), ("cuda", options.jobs or 1)):
        chosen = [job for job in jobs if job.cell.device == device]
        run_all(chosen, limit, machine.data_root, keep, quick=options.quick)
    return failed


def _scored(run: Mapping[str, Any]) -> str:
    """How a run ended: numbers have no error in percent."""
    return f"test error {run['errors'][-1]:.2f} %" if run["errors"] else f"test loss {run['test_losses'][-1]:.4g}"


def main(arguments: Sequence[str]) -> int:
    """Exit status: 0, 1 a run failed, 2 the user's mistake, 130 interrupted."""
    leave_on_sigterm()
    options = parse(arguments)
    tables = [TABLES[name] for name in dict.fromkeys(options.table or TABLES)]
    store = Store(options.out or (QUICK_RESULTS if options.quick else RESULTS), options.quick)
    machine = Machine(options.data_root or default_data_root())
    if not any(matching(table, options.cells) for table in tables):
        print(f"no cell has such a name (given: --cells {options.cells!r}). See --list --table NAME.", file=sys.stderr)
        return 2
    if options.list:
        show_list(tables, store, options.cells, cells=bool(options.table))
        return 0
    failed = 0
    try:
        if not options.print:
            failed = run(jobs_of(tables, store, machine, options), store, machine, options)
    except KeyboardInterrupt:
        print("interrupted; what had ended is kept", file=sys.stderr)
        return 130
    for table in tables:
        print(f"\n{render(table, store, machine.lacks)}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
