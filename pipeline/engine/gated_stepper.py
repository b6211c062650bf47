"""Blocks that take a part of their steps: the gate of the mode ``gated``.

The gate acts on the *step* and not on the gradient, since Adam, Rprop and sign descent step as far for a small gradient
as for a large one. The optimizer steps as it would, and what a parameter has moved is scaled,

    w <- w_old + r (w - w_old),

so that momentum and moments go by the whole gradients. Decoupled weight decay is part of the step.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.engine.stepper import Stepper
from pipeline.records.reports import GateRow
from pipeline.schedules.plan import Plan
from pipeline.schedules.wave import Wave

__all__ = ["GatedStepper"]


class GatedStepper(Stepper):
    """A stepper whose blocks take the parts of their steps that a wave says.

    Args:
        inner: steps the parameters.
        wave: of the run.
    """

    def __init__(self, inner: Stepper, wave: Wave) -> None:
        self._inner, self._wave = inner, wave
        self._training: dict[int, list[nn.Parameter]] = {}
        self._epoch = 0

    def parameters(self, block: int) -> list[nn.Parameter]:
        """See :class:`Stepper`."""
        return self._inner.parameters(block)

    def begin(self, plan: Plan, training: Sequence[int]) -> None:
        """See :class:`Stepper`."""
        self._inner.begin(plan, training)
        self._training = {k: self.parameters(k) for k in training}
        self._epoch = plan.epoch

    def step(self, step: int = 0) -> None:
        """See :class:`Stepper`; blocks that take a whole step are not touched otherwise."""
        held: list[tuple[float, list[Tensor], list[Tensor]]] = []
        for k, parameters in self._training.items():
            part = self._wave.part(k, step)
            moved: list[Tensor] = [p.detach() for p in parameters if p.grad is not None]
            if part < 1.0 and moved:
                held.append((part, moved, [p.clone() for p in moved]))
        self._inner.step(step)
        for part, moved, before in held:
            if part > 0.0:
                change = torch._foreach_sub(moved, before)
                torch._foreach_mul_(change, part)
                torch._foreach_add_(before, change)
            torch._foreach_copy_(moved, before)

    def told(self, block: int) -> GateRow:
        """See :class:`Stepper`: the mean part of the epoch."""
        return {"gate": self._wave.mean(block, self._epoch)} if block in self._training else {}

    def capture(self, block: int) -> dict[str, Any]:
        """See :class:`Stepper`; the gate is a function of the step."""
        return self._inner.capture(block)

    def restore(self, block: int, state: Mapping[str, Any]) -> None:
        """See :class:`Stepper`."""
        self._inner.restore(block, state)

    def num_bytes(self) -> int:
        """See :class:`Stepper`."""
        return self._inner.num_bytes()
