"""Cuts: the points of training at which the state of every block can be written down and taken up again exactly.

A cut lies behind an optimizer step. Behind a step nothing is under way for any block: what it learned from is applied,
and what a stage above has yet to receive is sent again by the stages below, which are cut at the same step. Where
several batches are in flight this holds only between epochs, since an epoch drains; draining in its middle would
change the weights.
"""

from dataclasses import dataclass
from typing import NamedTuple

__all__ = ["Cut", "Cuts"]


class Cut(NamedTuple):
    """``step`` steps of ``epoch`` are done, and all epochs before it, evaluation included."""

    epoch: int = 0
    step: int = 0


@dataclass(frozen=True)
class Cuts:
    """The cuts at which a run is written down, the same on every stage.

    Args:
        num_steps: optimizer steps of an epoch.
        every_steps: counted from the run's first step; 0: none.
        every_epochs: 0: none.
    """

    num_steps: int
    every_steps: int = 0
    every_epochs: int = 0

    def starts(self, epoch: int) -> bool:
        """The cut before the first step of ``epoch`` is one of them; the very first state is not."""
        if epoch == 0:
            return False
        by_steps = self.every_steps > 0 and (epoch * self.num_steps) % self.every_steps == 0
        return by_steps or (self.every_epochs > 0 and epoch % self.every_epochs == 0)

    def inside(self, epoch: int) -> frozenset[int]:
        """Steps of ``epoch`` behind which there is a cut, neither the first nor the last."""
        if self.every_steps == 0:
            return frozenset()
        first = epoch * self.num_steps
        return frozenset(s for s in range(1, self.num_steps) if (first + s) % self.every_steps == 0)
