"""The probe of a run: samples that pass all blocks every so many steps, to see how far their inputs still move."""

from dataclasses import dataclass
from typing import Self

from pipeline.config.gate import GateConfig
from pipeline.schedules.batching import Batching

__all__ = ["Probe"]


@dataclass(frozen=True)
class Probe:
    """When the probe passes, and its size."""

    every: int
    """Steps: before step 0, ``every``, and so on, of the run."""
    num_samples: int

    @classmethod
    def of(cls, gate: GateConfig, batching: Batching) -> Self:
        """The probe of a run whose gate measures."""
        return cls(gate.probe_every, min(gate.probe_samples, batching.num_train))
