"""``metrics.csv`` in the run's folder: a line for each epoch, a column for each number."""

import csv
from collections.abc import Iterator
from typing import Any

from workers.listening.epochs import LoggedRun, LogRow

__all__ = ["build"]


def build(run: LoggedRun, rows: Iterator[LogRow]) -> None:
    """Writes the file anew where a column is new, as of a block that joins in; else a line behind the others.

    Of a run that is taken up in its own folder, the lines of the epochs before are kept.
    """
    path, names, lines = run.out / "metrics.csv", ["epoch"], list[dict[str, Any]]()
    if path.exists():
        with path.open(newline="", encoding="utf8") as file:
            reader = csv.DictReader(file)
            lines, names = list(reader), list(reader.fieldnames or names)
    is_whole = False
    for row in rows:
        if row.event != "epoch":
            continue
        line = {"epoch": row.epoch, **row.numbers}
        kept = [old for old in lines if str(old["epoch"]).isdecimal() and int(old["epoch"]) < row.epoch]
        new = [name for name in line if name not in names]
        is_whole = is_whole and len(kept) == len(lines) and not new
        names, lines = [*names, *new], [*kept, line]
        with path.open("a" if is_whole else "w", newline="", encoding="utf8") as file:
            writer = csv.DictWriter(file, names, restval="", extrasaction="ignore", lineterminator="\n")
            if not is_whole:
                writer.writeheader()
            writer.writerows(lines[-1:] if is_whole else lines)
        is_whole = True
