"""Blocks that take a part of their steps: the mode ``gated``.

The gate acts on the *step* and not on the gradient, since Adam, Rprop and sign descent step as far for a small gradient
as for a large one. The optimizer steps as it would, and what a parameter has moved is scaled,

    w <- w_old + r (w - w_old),

so that momentum and moments go by the whole gradients. Decoupled weight decay is part of the step.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.engine.gates import Gate
from pipeline.engine.stepper import Stepper
from pipeline.records.reports import GateRow
from pipeline.schedules.plan import Plan

__all__ = ["GatedStepper"]

_GATE = "gate/"


@dataclass(slots=True)
class _Before:
    """Parameters of a block before a step of which it takes a part."""

    part: float
    columns: tuple[Tensor, Tensor] | None
    moved: list[nn.Parameter]
    copies: list[Tensor]

    def scale(self) -> None:
        """Takes back what is not taken of the step."""
        if self.columns is not None:
            weight, parts = self.columns
            for own in [n for n, p in enumerate(self.moved) if p is weight]:
                before, _ = self.copies.pop(own), self.moved.pop(own)
                weight.copy_(torch.where(parts == 1.0, weight, before + parts * (weight - before)))
        moved: list[Tensor] = list(self.moved)
        if self.part < 1.0 and moved:
            if self.part > 0.0:
                change = torch._foreach_sub(moved, self.copies)
                torch._foreach_mul_(change, self.part)
                torch._foreach_add_(self.copies, change)
            torch._foreach_copy_(moved, self.copies)


class GatedStepper(Stepper):
    """A stepper whose blocks take the parts of their steps that a gate says.

    Args:
        inner: steps the parameters.
        gate: decides.
    """

    def __init__(self, inner: Stepper, gate: Gate) -> None:
        self.gate = gate
        self._inner = inner
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
        self.gate.begin(plan.epoch)

    @torch.no_grad()
    def step(self, step: int = 0) -> None:
        """See :class:`Stepper`; a block that takes a whole step is not touched otherwise."""
        held: list[_Before] = []
        for k, parameters in self._training.items():
            if self.gate.rests(k):
                self.gate.taken(k, 0.0)
                continue
            part, columns = self.gate.part(k, step), self.gate.columns(k)
            moved = [p for p in parameters if p.grad is not None]
            if moved:
                self.gate.taken(k, part)
            if part < 1.0 or columns is not None:
                held.append(_Before(part, columns, moved, [p.clone() for p in moved]))
        self._inner.step(step)
        for before in held:
            before.scale()

    def told(self, block: int) -> GateRow:
        """See :class:`Stepper`."""
        return self.gate.told(block, self._epoch) if block in self._training else {}

    def version(self, block: int) -> int:
        """See :class:`Stepper`."""
        return self.gate.version(block)

    def capture(self, block: int) -> dict[str, Any]:
        """See :class:`Stepper`; with what the gate goes by."""
        gate = {_GATE + name: value for name, value in self.gate.capture(block).items()}
        return {**self._inner.capture(block), **gate}

    def restore(self, block: int, state: Mapping[str, Any]) -> None:
        """See :class:`Stepper`."""
        gate = {name.removeprefix(_GATE): value for name, value in state.items() if name.startswith(_GATE)}
        self._inner.restore(block, {name: value for name, value in state.items() if not name.startswith(_GATE)})
        self.gate.restore(block, gate)

    def num_bytes(self) -> int:
        """See :class:`Stepper`."""
        return self._inner.num_bytes()
