"""The section ``[gate]``: which part of its step a block takes, and when."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pipeline.ranges import Count, NonNegative, Positive, Range, check_fields

__all__ = ["GateConfig"]


@dataclass(frozen=True, kw_only=True)
class GateConfig:
    """Mode ``gated``: the part of its optimizer step that each block takes. Ignored in other modes."""

    form: Literal["G1", "G2", "G3", "G4"] = "G3"
    """G1: each axis of a block's input by how far it moves. G2: the whole block by how far its input moves. G3, the
    staged wave: blocks start one after another, from the bottom up, at times that are known before. G4: each block
    starts when its input has moved less than ``tau`` for the first time."""
    delay: NonNegative = 1.0
    """G3: epochs between the start of a block and that of the next one that learns. 0: all start at once."""
    ramp: NonNegative = 0.0
    """G3, G4: epochs from a block's start over which its step grows to its whole length. 0: it is whole at once."""
    train_for: NonNegative = 0.0
    """G3, G4: epochs from a block's start after which it takes no step any more, under G3 it is then frozen. 0: it
    learns to the end."""
    tau: Positive = 0.1
    """G1, G2: the drift at which half a step is taken. G4: the drift below which a block starts. Drift is relative: to
    the spread of an axis (G1), to the length of the block's input (G2, G4)."""
    memory: Annotated[float, Range(0, 1, below=True)] = 0.9
    """G1, G2, G4: the share of the drift so far that each new probe keeps. 0: the newest displacement alone."""
    start: Literal["open", "closed"] = "open"
    """G1, G2: blocks take whole steps until their input has been measured twice, or none."""
    probe_every: Count = 25
    """G1, G2, G4: optimizer steps from probe to probe."""
    probe_samples: Count = 128
    """G1, G2, G4: samples of the probe, at most the training set: the first ones of the run's first epoch."""

    def __post_init__(self) -> None:
        check_fields(self, "gate.")

    @property
    def is_wave(self) -> bool:
        """Blocks start at one time, and may end at another."""
        return self.form in ("G3", "G4")

    @property
    def measures(self) -> bool:
        """The gate goes by what blocks compute, and a probe passes them."""
        return self.form != "G3"
