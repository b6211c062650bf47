"""The section ``[gate]``: which part of its step a block takes, and when."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pipeline.errors import ConfigError
from pipeline.ranges import Count, NonNegative, Positive, Range, check_fields

__all__ = ["GateConfig"]


@dataclass(frozen=True, kw_only=True)
class GateConfig:
    """Mode ``gated``: the part of its optimizer step that each block takes. Ignored in other modes."""

    form: Literal["G1", "G1m", "G2", "G3", "G4"] = "G3"
    """G1: each axis of a block's input by how far it moves. G1m: so, and the block learns from what moves as though it
    stood still. G2: the whole block by how far its input moves. G3, the staged wave: blocks start one after another,
    from the bottom up, at times that are known before. G4: each block starts when its input has moved less than ``tau``
    for the first time."""
    delay: NonNegative = 1.0
    """G3: epochs between the start of a block and that of the next one that learns. 0: all start at once."""
    ramp: NonNegative = 0.0
    """G3, G4: epochs from a block's start over which its step grows to its whole length. 0: it is whole at once."""
    train_for: NonNegative = 0.0
    """G3, G4: epochs from a block's start after which it takes no step any more, under G3 it is then frozen. 0: it
    learns to the end."""
    tau: Positive = 0.1
    """G1, G1m, G2: the drift at which half a step is taken. G4: the drift below which a block starts. Drift is
    relative: to the spread of an axis (G1, G1m), to the length of the block's input (G2, G4)."""
    memory: Annotated[float, Range(0, 1, below=True)] = 0.9
    """G1, G1m, G2, G4: the share of the drift so far that each new probe keeps. 0: the newest displacement alone."""
    start: Literal["open", "closed"] = "open"
    """G1, G1m, G2: blocks take whole steps until their input has been measured twice, or none."""
    rest: NonNegative = 0.0
    """G1, G1m, G2, G4: the drift of a block's output below which it learns no more, for good, and costs its forward
    pass alone. 0: blocks learn to the end. With a wave whose steps grow it is refused: small steps move little."""
    probe_every: Count = 25
    """G1, G1m, G2, G4: optimizer steps from probe to probe."""
    probe_samples: Count = 128
    """G1, G1m, G2, G4: samples of the probe, at most the training set: the first ones of the run's first epoch."""

    def __post_init__(self) -> None:
        check_fields(self, "gate.")
        if self.form == "G4" and self.rest > 0.0 and self.ramp > 0.0:
            raise ConfigError(
                f"a block whose steps are still small moves little, and would come to rest (given: gate.rest = "
                f"{self.rest:g} with gate.ramp = {self.ramp:g}, expected: one of them 0). Change one."
            )

    @property
    def needs_local_rule(self) -> bool:
        """Blocks learn from another forward pass than the one that others see, or learn no more one by one."""
        return self.form == "G1m" or (self.measures and self.rest > 0.0)

    @property
    def is_wave(self) -> bool:
        """Blocks start at one time, and may end at another."""
        return self.form in ("G3", "G4")

    @property
    def measures(self) -> bool:
        """The gate goes by what blocks compute, and a probe passes them."""
        return self.form != "G3"
