"""Where a stage's program starts: at the beginning, or at a cut that a snapshot holds."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from pipeline.engine.block_state import BlockState, restore, restore_scores
from pipeline.engine.stage import Stage
from pipeline.schedules.cuts import Cut

__all__ = ["Start"]


@dataclass(frozen=True)
class Start:
    """A cut, and the state of the stage's blocks there."""

    cut: Cut = Cut()
    states: Mapping[int, BlockState] = field(default_factory=dict)
    """By block; empty at the beginning, where blocks are as they were built."""
    samples: int = 0
    """Training samples that have gone through the stage, had it always hosted these blocks."""

    def restore(self, stage: Stage) -> None:
        """Puts the stage's blocks into the state of the cut.

        Raises:
            ConfigError: they are other blocks.
        """
        for block, state in self.states.items():
            restore(stage, block, state)

    def restore_scores(self, stage: Stage) -> None:
        """Puts back the losses of the epoch that the stage has begun, inside which the cut lies."""
        for block, state in self.states.items():
            restore_scores(stage, block, state)
