"""What the process of an arm is told."""

from dataclasses import dataclass

from benchmarks.presets import Precision, Preset

__all__ = ["ArmJob"]


@dataclass(frozen=True, kw_only=True)
class ArmJob:
    """One run of one arm. Picklable."""

    module: str
    """Has a function ``main(job)`` that measures and returns a table for JSON."""
    preset: Preset
    precision: Precision
    seconds: float = 1.0
    """About how long to measure, after the warm-up."""
    threads: int = 1
    """Compute threads of each process."""
    processes: int = 1
    keeps_memory: bool = True
    """Whether freed memory stays in the process, see :mod:`workers.host.allocator`; our own stages always do that."""
    partition: tuple[int, ...] = (1,)
    """Blocks of each stage."""
    mode: str = "parallel"
    """Of our arms; of torch's pipelining gpipe or 1f1b."""
    microbatches: int = 0
    epochs: int = 0
    """Of our arms: epochs to train for. 0: as many as ``seconds`` ask for at ``rate``."""
    rate: float = 0.0
    """Of our arms: about how many samples per second are to be expected."""
