"""Positions in a run's order of work."""

from typing import NamedTuple

__all__ = ["EVALUATION", "NOWHERE", "Position"]


class Position(NamedTuple):
    """Position of a micro-batch in a run: epoch, step, number inside the step. The same on every stage."""

    epoch: int
    step: int
    """Optimizer step, counted from 0 over the whole run; in evaluation the test batch, counted from 0."""
    microbatch: int = 0
    """Inside the step, from 0; :data:`EVALUATION` in evaluation, where time is booked."""


EVALUATION = -1
"""In place of a micro-batch's number where a time line shows a test batch."""

NOWHERE = Position(-1, -1, -1)
"""Between epochs, before the first and after the last."""
