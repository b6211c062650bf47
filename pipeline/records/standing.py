"""How far a run is, by what is in its folder: whoever goes on with it can tell whether another command has done so."""

import zlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pipeline.records.result_file import if_completed
from pipeline.records.snapshots import complete_snapshots

__all__ = ["Standing"]


@dataclass(frozen=True)
class Standing:
    """How far a run is; two are equal where nobody has gone on with it in between."""

    newest: str | None
    """Name of its newest snapshot that was declared complete."""
    checksum: int
    """Of that one's manifest: a run that was taken up further back comes to the same step again."""
    is_complete: bool
    """It has its result."""

    @classmethod
    def of(cls, run: Path) -> Self:
        """Args: run, its folder."""
        newest, checksum = next(iter(complete_snapshots(run)), None), 0
        if newest is not None:
            with suppress(OSError):  # it is being retired, by the run that still goes on
                checksum = zlib.crc32((newest / "manifest.json").read_bytes())
        return cls(newest.name if newest is not None else None, checksum, if_completed(run) is not None)

    def __str__(self) -> str:
        newest = f"{self.newest} ({self.checksum:08x})" if self.newest is not None else "without a snapshot"
        return f"{newest}{', complete' if self.is_complete else ''}"
