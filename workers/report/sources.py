"""What a report is about: the runs in the folders that were named, and the comparisons and sweeps among these."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import ConfigError
from workers.report.given import table
from workers.report.runs import ReportRun, is_run, read_report_run

__all__ = ["MOST_RUNS", "Sources", "TABLES", "read_sources"]

MOST_RUNS = 40
"""More than can be told apart; what is named by hand is refused beyond, of a sweep the first are shown."""
TABLES = ("compare.json", "sweep.json")
"""Of folders that hold several runs."""


@dataclass(frozen=True)
class Sources:
    """What was found in the folders."""

    runs: Sequence[ReportRun]
    tables: Sequence[tuple[str, str, Mapping[str, Any]]]
    """Comparisons and sweeps: the file's name, the folder's, and what is in the file."""
    num_left_out: int
    """Runs of sweeps and comparisons that are not shown, because there are too many."""


def read_sources(folders: Sequence[Path]) -> Sources:
    """Reads runs, and the folders of comparisons and sweeps with all their runs.

    Raises:
        ConfigError: a folder is none of them or is named twice, or there are too many.
    """
    named = [folder.resolve() for folder in folders]
    if twice := [folder for folder, times in zip(folders, map(named.count, named), strict=True) if times > 1]:
        raise ConfigError(f"a folder is named twice (given: {twice[0]}, expected: once). Leave it out.")
    if len(named) > MOST_RUNS:
        raise ConfigError(
            f"too many runs for one page (given: {len(named)}, expected: at most {MOST_RUNS}). Name fewer."
        )
    found: list[Path] = []
    tables = []
    for folder in named:
        held = {name: held for name in TABLES if (held := _table(folder / name)) is not None}
        tables += [(name, folder.name, given) for name, given in held.items()]
        found += [folder] if not held or is_run(folder) else []
        found += sorted(f.parent for f in folder.glob("*/*/record.jsonl")) if held else []
    unique = list(dict.fromkeys(found))
    shown = unique[:MOST_RUNS]
    names = _names(shown)
    if not shown:
        raise ConfigError(f"no run is in this folder (given: {folders[0]}, expected: one that has begun). Name one.")
    return Sources([read_report_run(f, n) for f, n in zip(shown, names, strict=True)], tables, len(unique) - len(shown))


def _table(path: Path) -> Mapping[str, Any] | None:
    """What is in the file; None where there is none.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        return table(json.loads(path.read_text(encoding="utf8"))) if path.is_file() else None
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read a table of runs (given: {path}, {error}). Repeat what wrote it.") from None


def _names(folders: Sequence[Path]) -> list[str]:
    """The last parts of each path, as few as tell it from the others."""
    parts = [1] * len(folders)
    while True:
        names = ["/".join(folder.parts[-n:]) for folder, n in zip(folders, parts, strict=True)]
        double = {name for name, times in Counter(names).items() if times > 1}
        if not double:
            # Names of folders need not be text: what is no character is shown as one that says so.
            return [name.encode("utf8", "replace").decode("utf8") for name in names]
        parts = [n + (name in double) for n, name in zip(parts, names, strict=True)]
