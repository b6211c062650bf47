"""The section ``[gate]``: which part of its step a block takes, and when."""

from dataclasses import dataclass
from typing import Literal

from pipeline.ranges import NonNegative, check_fields

__all__ = ["GateConfig"]


@dataclass(frozen=True, kw_only=True)
class GateConfig:
    """Mode ``gated``: the part of its optimizer step that each block takes. Ignored in other modes."""

    form: Literal["G3"] = "G3"
    """G3, the staged wave: blocks start one after another, from the bottom up, at times that are known before."""
    delay: NonNegative = 1.0
    """Epochs between the start of a block and that of the next one that learns. 0: all start at once."""
    ramp: NonNegative = 0.0
    """Epochs from a block's start over which its step grows to its whole length. 0: it is whole at once."""
    train_for: NonNegative = 0.0
    """Epochs from a block's start after which it takes no step any more, and is frozen. 0: it learns to the end."""

    def __post_init__(self) -> None:
        check_fields(self, "gate.")
