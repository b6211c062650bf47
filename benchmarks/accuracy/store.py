"""One JSON file for each cell: its config and its runs, one for each seed.

A run counts only for the config that it was made with, known by its digest: a cell that is edited is run again. A run
that failed is kept for its error and counts for nothing.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from benchmarks.accuracy.cell import Cell, PublishedTable

__all__ = ["Store", "digest"]


def digest(cell: Cell, quick: bool = False) -> str:
    """Digest of the config without its seed."""
    table = cell.nested(0, quick)
    del table["seed"]
    if cell.program:
        table["program"] = list(cell.program)
    return hashlib.sha256(json.dumps(table, sort_keys=True).encode()).hexdigest()[:16]


@lru_cache(maxsize=1024)
def _read(path: Path, mtime_ns: int, inode: int) -> Mapping[str, Any]:
    """A file as long as it is the same one: a page asks for each figure, check and reason anew. Not to be changed."""
    found: Mapping[str, Any] = json.loads(path.read_text(encoding="utf8"))
    return found


@dataclass(frozen=True)
class Store:
    """The files of full runs, or in another folder those of quick ones."""

    folder: Path
    quick: bool = False

    def path(self, table: PublishedTable, cell: Cell) -> Path:
        """Path of a cell's file; a quick run never replaces a full one, whatever the folder."""
        return self.folder / table.name / f"{cell.name}{'.quick' if self.quick else ''}.json"

    def runs(self, table: PublishedTable, cell: Cell) -> list[dict[str, Any]]:
        """Runs with the cell's present config, failed ones included, by seed."""
        try:
            state = (path := self.path(table, cell)).stat()
        except FileNotFoundError:
            return []
        found = _read(path, state.st_mtime_ns, state.st_ino)
        if found["digest"] != digest(cell, self.quick) or found["quick"] != self.quick:
            return []
        runs: list[dict[str, Any]] = sorted(found["runs"], key=lambda run: int(run["seed"]))
        return runs

    def completed(self, table: PublishedTable, cell: Cell) -> list[dict[str, Any]]:
        """Those of :meth:`runs` from which figures are read: of the seeds that the cell names."""
        return [r for r in self.runs(table, cell) if r["status"] == "completed" and r["seed"] in cell.seeds]

    def missing(self, table: PublishedTable, cell: Cell, seeds: Sequence[int]) -> list[int]:
        """The seeds that are yet to be run, those that failed among them."""
        done = {run["seed"] for run in self.completed(table, cell)}
        return [seed for seed in seeds if seed not in done]

    def add(self, table: PublishedTable, cell: Cell, run: Mapping[str, Any]) -> None:
        """Keeps a run in place of an earlier one of its seed; the file is whole at any moment."""
        others = [r for r in self.runs(table, cell) if r["seed"] != run["seed"]]
        about = {
            "table": table.name, "cell": cell.name, "quick": self.quick, "digest": digest(cell, self.quick),
            "command": ["python", "-m", "benchmarks.accuracy", "--table", table.name, "--cells", cell.name,
                        *(["--quick"] if self.quick else [])],
            "config": dict(cell.config),
        }  # fmt: skip
        path = self.path(table, cell)
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(".part")
        lines = ",\n".join(json.dumps(r) for r in sorted([*others, run], key=lambda r: int(r["seed"])))
        draft.write_text(f'{json.dumps(about, indent=1)[:-2]},\n "runs": [\n{lines}\n]}}\n', encoding="utf8")
        os.replace(draft, path)
