"""Prediction of a run's speed from the pace of its dry run.

The rate is that of ``train_samples_per_s`` in ``result.json``: from the first batch to the last report, the first
fill of the pipeline and the evaluations included, so that the two can be compared.
"""

import math
from dataclasses import asdict, dataclass
from typing import Any

from pipeline.planning.taken import Taken
from pipeline.schedules.batching import Batching

__all__ = ["Pace", "Prediction", "predict"]


@dataclass(frozen=True)
class Pace:
    """Times that a dry run measured, in seconds."""

    stage_s: tuple[float, ...]
    """Work of each stage for one batch, all its micro-batches; waits left out."""
    first_s: float
    """From the start until the last stage has learned from the first batch: the filling of the pipeline, and what
    is done only once."""
    step_s: float
    """From one batch to the next, at the last stage."""
    eval_s: float
    """From one test batch to the next, at the last stage."""
    taken: Taken | None = None
    """When it was measured, and how undisturbed; None: nobody has told."""

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, table: dict[str, Any]) -> "Pace":
        """From :meth:`to_dict`'s table.

        Raises:
            KeyError, TypeError, ValueError: it is none.
        """
        stage_s = tuple(float(s) for s in table["stage_s"])
        taken = None if table["taken"] is None else Taken.from_dict(table["taken"])
        pace = cls(stage_s, float(table["first_s"]), float(table["step_s"]), float(table["eval_s"]), taken)
        if not all(0 < s < math.inf for s in (*stage_s, pace.first_s, pace.step_s, pace.eval_s)):
            raise ValueError(f"no pace has such times (given: {table}, expected: seconds above 0). Measure again.")
        return pace


@dataclass(frozen=True)
class Prediction:
    """Predicted speed of a run."""

    stage_s: tuple[float, ...]
    """Work of each stage for one batch, waits left out."""
    samples_per_s: float
    """Of the whole run, as ``train_samples_per_s`` will be."""
    taken: Taken | None = None
    """When the times were measured that it is made from, and how undisturbed."""
    age_s: float = 0.0
    """Seconds since then, when it was made."""

    @property
    def words(self) -> str:
        """How old and how disturbed its measurements are; empty where they are neither."""
        return "" if self.taken is None else self.taken.words(self.age_s)

    def to_dict(self) -> dict[str, Any]:
        """As it stands in ``result.json``."""
        measured = None if self.taken is None else self.taken.told(self.age_s)
        return {"stage_s": list(self.stage_s), "samples_per_s": self.samples_per_s, "measured": measured}


def predict(pace: Pace, batching: Batching, epochs: int, eval_every: int) -> Prediction:
    """Predicts a run of that pace.

    Args:
        pace: of the stages.
        batching: how the data is cut.
        epochs: passes over the training set.
        eval_every: epochs between evaluations; the last epoch is always evaluated.
    """
    steps = epochs * batching.num_train / batching.batch_size
    evaluations = -(-epochs // eval_every)
    seconds = pace.first_s + max(0.0, steps - 1) * pace.step_s + evaluations * batching.num_eval_batches * pace.eval_s
    age_s = 0.0 if pace.taken is None else pace.taken.age_s()
    return Prediction(pace.stage_s, epochs * batching.num_train / seconds, pace.taken, age_s)
