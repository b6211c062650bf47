"""Job of an arm: everything that its process needs to know."""

from dataclasses import dataclass
from typing import Protocol

from benchmarks.presets import Precision, Preset
from pipeline.numerics.wire_names import Wire

__all__ = ["ArmJob", "Entered"]


class Entered(Protocol):
    """A host that a process can move to."""

    @property
    def address(self) -> str:
        """Of the host."""

    def enter(self) -> None:
        """Moves this process there, whole where it has one thread."""


@dataclass(frozen=True, kw_only=True)
class ArmJob:
    """One run of one arm. Picklable."""

    module: str
    """Module with a function ``main(job)`` that measures and returns a table for JSON."""
    preset: Preset
    precision: Precision
    seconds: float = 1.0
    """About how long to measure, after the warm-up."""
    threads: int = 1
    """Compute threads of each process."""
    processes: int = 1
    keeps_memory: bool = True
    """Keep freed memory in the process, see :mod:`workers.host.allocator`; Onward's stages always do."""
    partition: tuple[int, ...] = (1,)
    """Blocks of each stage."""
    mode: str = "parallel"
    """Mode of Onward's arms; for torch's pipelining gpipe or 1f1b."""
    microbatches: int = 0
    wire: Wire = "same"
    """Format of activations between the blocks of Onward's arms."""
    hosts: tuple[Entered, ...] = ()
    """Hosts of the processes, one each; without, all are on this one."""
    epochs: int = 0
    """Epochs of Onward's arms. 0: as many as take ``seconds`` at ``rate``."""
    rate: float = 0.0
    """Expected samples per second of Onward's arms, roughly."""
