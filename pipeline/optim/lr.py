"""The learning rate as a pure function of the epoch and, with a course, of the step.

It depends on what a block has trained, so that a resumed run needs no state of it.
"""

from dataclasses import dataclass
from itertools import pairwise

from pipeline.errors import ConfigError
from pipeline.optim.course import Course

__all__ = ["LrSchedule"]


@dataclass(frozen=True)
class LrSchedule:
    """Step decay: ``base`` times ``gamma`` for every milestone passed.

    Source: Nøkland and Eidnes 2019 multiply by 0.25 at 1/2, 3/4, 8/9 and 15/16 of the run.
    """

    base: float
    """Learning rate of the first epoch."""
    milestones: tuple[int, ...] = ()
    """Epochs, counted from 0 and rising, from which on another factor ``gamma`` applies."""
    gamma: float = 0.25
    course: Course = Course()
    """A further factor for every step."""

    def __post_init__(self) -> None:
        if any(m < 1 for m in self.milestones) or any(a >= b for a, b in pairwise(self.milestones)):
            raise ConfigError(
                f"the learning rate cannot change at these epochs (given: optimizer.milestones = "
                f"{list(self.milestones)}, expected: rising, from 1 on). Reorder or remove some."
            )
        if not 0.0 < self.gamma < float("inf"):
            raise ConfigError(
                f"the factor on the learning rate is out of range (given: optimizer.gamma = {self.gamma}, "
                "expected: above 0 and finite). Change it."
            )

    def factor(self, epoch: int) -> float:
        """Factor on ``base`` in ``epoch``, counted from 0."""
        return self.gamma ** sum(epoch >= m for m in self.milestones)

    def at(self, epoch: int) -> float:
        """The learning rate in ``epoch``, counted from 0, without the course of its steps."""
        return self.base * self.factor(epoch)
