"""Blocks that take a part of their steps: the mode ``gated``.

The gate acts on the *step* and not on the gradient, since Adam, Rprop and sign descent step as far for a small gradient
as for a large one. The optimizer steps as it would, and what a parameter has moved is scaled,

    w <- w_old + r (w - w_old),

so that momentum and moments go by the whole gradients. Decoupled weight decay is part of the step. Where r is 0 the
optimizer takes no step either: it begins with the block. Rprop would lengthen its steps meanwhile, against gradients
that nothing turns, and throw the weights away with the first one.

It is a matter of memory traffic, so a block of more than :data:`PORTION_BYTES` is stepped alone, between the copy of
its weights and their scaling, while they are in the processor's cache; smaller ones share a call of the optimizer.
Products, differences and sums are rounded one by one (torch's ``lerp`` rounds as its processor likes best).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.engine.block_steppers import stepper_of
from pipeline.engine.columns import Columns
from pipeline.engine.gates import Gate
from pipeline.engine.stepper import Stepper
from pipeline.learning.rule import LearningRule
from pipeline.optim.block_optimizers import BlockOptimizers
from pipeline.optim.lr import LrSchedule
from pipeline.optim.optimizers import OptimizerSpec
from pipeline.records.reports import GateRow
from pipeline.schedules.plan import Plan

__all__ = ["PORTION_BYTES", "GatedStepper", "portions_of"]

PORTION_BYTES = 2**20
"""Of parameters, up to which neighbouring blocks are stepped by one call."""
_GATE = "gate/"


def portions_of(
    rules: Mapping[int, LearningRule], optimizer: OptimizerSpec | BlockOptimizers, lr: LrSchedule
) -> dict[int, Stepper]:
    """What steps each block, the same object for blocks that are stepped by one call. Args: see :func:`stepper_of`."""
    portions: list[dict[int, LearningRule]] = []
    room = PORTION_BYTES
    for k, rule in rules.items():
        size = sum(p.numel() * p.element_size() for group, _ in rule.parameter_groups() for p in group)
        if not portions or size > room:
            portions.append({})
            room = PORTION_BYTES
        portions[-1][k] = rule
        room -= size
    return {k: stepper for some in portions for stepper in [stepper_of(some, optimizer, lr)] for k in some}


@dataclass(slots=True)
class _Part:
    """Parameters of a block around a step of which it takes a part."""

    part: float
    columns: Columns | None
    moved: list[nn.Parameter]
    before: list[Tensor]

    @torch.no_grad()
    def scale(self) -> None:
        """Takes back what is not taken of the step."""
        if self.columns is not None:
            for own in [n for n, p in enumerate(self.moved) if p is self.columns.weight]:
                self.columns.scale(self.before.pop(own))
                del self.moved[own]
        if self.part < 1.0 and self.moved:
            moved: list[Tensor] = list(self.moved)
            torch._foreach_sub_(moved, self.before)
            torch._foreach_mul_(moved, self.part)
            torch._foreach_add_(moved, self.before)


class GatedStepper(Stepper):
    """A stepper whose blocks take the parts of their steps that a gate says.

    Args:
        inner: steps the parameters of each block; see :func:`portions_of`.
        gate: decides.
    """

    def __init__(self, inner: Mapping[int, Stepper], gate: Gate) -> None:
        self.gate = gate
        self._inner = inner
        self._portions = list({id(stepper): stepper for stepper in inner.values()}.values())
        self._training: list[tuple[Stepper, dict[int, list[nn.Parameter]]]] = []
        self._trained: frozenset[int] = frozenset()
        self._epoch = 0

    def parameters(self, block: int) -> list[nn.Parameter]:
        """See :class:`Stepper`."""
        return self._inner[block].parameters(block)

    def begin(self, plan: Plan, training: Sequence[int]) -> None:
        """See :class:`Stepper`."""
        self._training = []
        for stepper in self._portions:
            some = [k for k in training if self._inner[k] is stepper]
            stepper.begin(plan, some)
            if some:
                self._training.append((stepper, {k: self.parameters(k) for k in some}))
        self._trained = frozenset(training)
        self._epoch = plan.epoch
        self.gate.begin(plan.epoch)

    def step(self, step: int = 0) -> None:
        """See :class:`Stepper`; a block that takes a whole step is not touched otherwise."""
        for stepper, blocks in self._training:
            held = [part for k, parameters in blocks.items() if (part := self._held(k, parameters, step)) is not None]
            stepper.step(step)
            for part in held:
                part.scale()

    def _held(self, block: int, parameters: list[nn.Parameter], step: int) -> _Part | None:
        """What keeps a block's parameters from a whole step; None where it takes one, or none at all."""
        moved = [p for p in parameters if p.grad is not None]
        rests = self.gate.rests(block)
        part, columns = (0.0, None) if rests else (self.gate.part(block, step), self.gate.columns(block))
        if moved or rests:
            self.gate.taken(block, part)
        if part == 0.0 and columns is None:
            for parameter in moved:
                parameter.grad = None
            return None
        if part < 1.0 or columns is not None:
            return _Part(part, columns, moved, [p.detach().clone() for p in moved])
        return None

    def told(self, block: int) -> GateRow:
        """See :class:`Stepper`."""
        return self.gate.told(block, self._epoch) if block in self._trained else {}

    def version(self, block: int) -> int:
        """See :class:`Stepper`."""
        return self.gate.version(block)

    def capture(self, block: int) -> dict[str, Any]:
        """See :class:`Stepper`; with what the gate goes by."""
        gate = {_GATE + name: value for name, value in self.gate.capture(block).items()}
        return {**self._inner[block].capture(block), **gate}

    def restore(self, block: int, state: Mapping[str, Any]) -> None:
        """See :class:`Stepper`."""
        gate = {name.removeprefix(_GATE): value for name, value in state.items() if name.startswith(_GATE)}
        self._inner[block].restore(block, {name: value for name, value in state.items() if not name.startswith(_GATE)})
        self.gate.restore(block, gate)

    def num_bytes(self) -> int:
        """See :class:`Stepper`."""
        return sum(stepper.num_bytes() for stepper in self._portions)
