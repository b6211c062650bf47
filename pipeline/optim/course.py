"""The course of the learning rate from step to step: warm-up, then constant, cosine, linear or constant-then-decay.

A pure function of the number of optimizer steps that a block has been through: placement cannot change it, and a
resumed run needs no state of it.
"""

from dataclasses import dataclass
from math import cos, pi
from typing import Literal

from pipeline.errors import ConfigError

__all__ = ["Course", "CourseName"]

CourseName = Literal["constant", "cosine", "linear", "wsd"]


@dataclass(frozen=True)
class Course:
    """Factor on the rate in each step of a run of ``total_steps``.

    In step n of the first W, counted from 0, it is ``(n + 1) / W``; behind them it falls from 1 towards
    ``final_fraction``, which it would reach in the step after the last, as torch's own ``CosineAnnealingLR`` and
    ``LinearLR`` do: along half a cosine (Loshchilov and Hutter 2017), along a line, or, ``wsd``, along a line in the
    last ``decay_share`` of the steps alone (warm-up, stable, decay; Hu et al. 2024).

    Raises:
        ConfigError: no step is left behind the warm-up, or for what follows it.
    """

    kind: CourseName = "constant"
    warmup_steps: int = 0
    final_fraction: float = 0.1
    decay_share: float = 0.2
    """Of all steps, those at the end of ``wsd`` in which the rate falls."""
    total_steps: int = 1
    """That a block trains in the whole run."""
    steps_per_epoch: int = 1

    def __post_init__(self) -> None:
        left = self.total_steps - self._num_falling if self.kind == "wsd" else self.total_steps - 1
        if self.warmup_steps > max(left, 0):
            what = f" and a decay of {self._num_falling}" if self.kind == "wsd" else ""
            raise ConfigError(
                f"the learning rate's warm-up leaves no room (given: optimizer.warmup_steps = {self.warmup_steps}"
                f"{what} in a run of {self.total_steps} steps, expected: at most {max(left, 0)}). Lower it, or train "
                "longer."
            )

    @property
    def is_constant(self) -> bool:
        """The factor is 1 in every step."""
        return self.kind == "constant" and self.warmup_steps == 0

    @property
    def _num_falling(self) -> int:
        """Steps of the decay of ``wsd``."""
        return max(1, round(self.total_steps * self.decay_share))

    def factor(self, step: int) -> float:
        """Factor in ``step``, counted from 0 over the epochs that the block has trained."""
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        if self.kind == "constant":
            return 1.0
        first = self.total_steps - self._num_falling if self.kind == "wsd" else self.warmup_steps
        share = min(max((step - first) / (self.total_steps - first), 0.0), 1.0)
        fallen = (1.0 - cos(pi * share)) / 2.0 if self.kind == "cosine" else share
        return 1.0 - (1.0 - self.final_fraction) * fallen
