"""Replicas: stages that several processes work on, who is dealt which micro-batch, and what they are called.

Processes are numbered stage by stage, replicas of a stage one after the other. Micro-batch m of a step goes to replica
``m % R`` of a stage of R replicas. With one replica each, the number of a process is that of its stage.
"""

from dataclasses import dataclass
from math import lcm

__all__ = ["Replicas"]


@dataclass(frozen=True)
class Replicas:
    """Processes of each stage.

    Args:
        counts: of each stage, at least 1.
    """

    counts: tuple[int, ...]

    @classmethod
    def single(cls, num_stages: int) -> "Replicas":
        """A process for each stage."""
        return cls((1,) * num_stages)

    @property
    def num_stages(self) -> int:
        """Stages of the pipeline."""
        return len(self.counts)

    @property
    def num_processes(self) -> int:
        """Processes of all stages."""
        return sum(self.counts)

    @property
    def is_single(self) -> bool:
        """Each stage has one process."""
        return self.num_processes == self.num_stages

    @property
    def divisor(self) -> int:
        """The least number of micro-batches that can be dealt to the replicas of every stage."""
        return lcm(*self.counts)

    def process(self, stage: int, microbatch: int = 0) -> int:
        """The process of ``stage`` that works on a micro-batch; test batches and snapshots are the first one's."""
        return sum(self.counts[:stage]) + microbatch % self.counts[stage]

    def group(self, stage: int) -> range:
        """Processes of ``stage``."""
        first = self.process(stage)
        return range(first, first + self.counts[stage])

    def place(self, process: int) -> tuple[int, int]:
        """Stage of a process, and which of its replicas it is."""
        stage = next(s for s in range(self.num_stages) if process < sum(self.counts[: s + 1]))
        return stage, process - self.process(stage)

    def name(self, process: int) -> str:
        """``stage 1/3``; of a stage with several replicas ``stage 1/3, replica 0/2``."""
        stage, replica = self.place(process)
        count = self.counts[stage]
        return f"stage {stage}/{self.num_stages}" + (f", replica {replica}/{count}" if count > 1 else "")
