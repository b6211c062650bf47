"""Options of states that settle freely, and then nudged."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pipeline.ranges import Count, Natural, Positive, Range

__all__ = ["Relaxation"]

_TEST_FACTOR = 5
"""Free rounds of a test sample, which starts at 0, for each of a training sample that starts where it was left."""


@dataclass(frozen=True)
class Relaxation:
    """How the states of all blocks settle."""

    form: Literal["prototypical", "energy"] = "prototypical"
    nudging: Literal["symmetric", "random_sign", "one_sided"] = "symmetric"
    """From the free state with beta and with -beta; with one of them, drawn for each batch; or with beta alone."""
    free_rounds: Count = 30
    """T1."""
    nudged_rounds: Count = 10
    """T2, of each nudge."""
    beta: Positive = 0.1
    step: Annotated[float, Range(0, 1, above=True)] = 0.5
    """eps of the energy-based form."""
    persistent: bool = False
    """A training sample starts where its last free phase ended, and not at 0."""
    test_rounds: Natural = 0
    """Free rounds in evaluation; 0: five times ``free_rounds`` if ``persistent``, else as many."""

    @property
    def num_nudges(self) -> int:
        """Nudged phases of a batch."""
        return 2 if self.nudging == "symmetric" else 1

    @property
    def num_tested(self) -> int:
        """Free rounds in evaluation."""
        return self.test_rounds or self.free_rounds * (_TEST_FACTOR if self.persistent else 1)
