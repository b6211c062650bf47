"""What a stage's process is told at its start."""

from dataclasses import dataclass
from pathlib import Path

from pipeline.block import Blueprint
from pipeline.resolve import Resolved
from workers.transport import WireSpec

__all__ = ["Job"]


@dataclass(frozen=True)
class Job:
    """One stage's share of a run. Picklable."""

    resolved: Resolved
    """Of the whole run, without blueprints: a stage gets its own only."""
    blueprints: tuple[Blueprint, ...]
    """Of this stage's blocks."""
    partition: tuple[range, ...]
    transport: str
    """A name or a dotted name."""
    wires: WireSpec
    threads: int
    data_root: Path
    out: Path
    """The run's folder."""

    @property
    def stage_index(self) -> int:
        """Of the stage."""
        return self.wires.stage_index

    @property
    def num_stages(self) -> int:
        """Of the pipeline."""
        return self.wires.num_stages

    @property
    def blocks(self) -> range:
        """Blocks of this stage."""
        return self.partition[self.stage_index]
