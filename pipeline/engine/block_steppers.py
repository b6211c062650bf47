"""Blocks that are not all stepped alike: a :class:`Stepper` for those that are, one after another in a step.

A class of its own, so that a run of one optimizer does nothing for it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from pipeline.engine.stepper import Stepper
from pipeline.learning.rule import LearningRule
from pipeline.optim.block_optimizers import BlockOptimizer, BlockOptimizers
from pipeline.optim.lr import LrSchedule
from pipeline.optim.optimizers import OptimizerSpec
from pipeline.schedules.plan import Plan

__all__ = ["BlockSteppers", "stepper_of"]


class BlockSteppers(Stepper):
    """Steps each block's parameters by the optimizer of the block, at its rate.

    Args:
        rules: of the hosted blocks, by block.
        optimizers: of the blocks that learn.
    """

    def __init__(self, rules: Mapping[int, LearningRule], optimizers: BlockOptimizers) -> None:
        alike: list[tuple[BlockOptimizer, dict[int, LearningRule]]] = []
        for k in rules:
            if (own := optimizers.get(k)) is not None:
                some = next((some for found, some in alike if found == own), None)
                if some is None:
                    alike.append((own, some := {}))
                some[k] = rules[k]
        self._steppers = [Stepper(some, own.optimizer, own.lr) for own, some in alike]
        self._of = {k: stepper for stepper, (_, some) in zip(self._steppers, alike, strict=True) for k in some}

    def parameters(self, block: int) -> list[nn.Parameter]:
        """See :class:`Stepper`; none of a frozen block."""
        return self._of[block].parameters(block) if block in self._of else []

    def begin(self, plan: Plan, training: Sequence[int]) -> None:
        """See :class:`Stepper`."""
        for stepper in self._steppers:
            stepper.begin(plan, [k for k in training if self._of.get(k) is stepper])

    def step(self, step: int = 0) -> None:
        """See :class:`Stepper`."""
        for stepper in self._steppers:
            stepper.step(step)

    def capture(self, block: int) -> dict[str, Any]:
        """See :class:`Stepper`; nothing of a frozen block."""
        return self._of[block].capture(block) if block in self._of else {}

    def restore(self, block: int, state: Mapping[str, Any]) -> None:
        """See :class:`Stepper`."""
        if block in self._of:
            self._of[block].restore(block, state)
        elif state:
            raise ValueError(f"block {block} is frozen and trains no parameters")

    def num_bytes(self) -> int:
        """See :class:`Stepper`."""
        return sum(stepper.num_bytes() for stepper in self._steppers)


def stepper_of(
    rules: Mapping[int, LearningRule], optimizer: OptimizerSpec | BlockOptimizers, lr: LrSchedule
) -> Stepper:
    """What steps ``rules``. Args: see :class:`Stepper`; or the optimizers of blocks, which bring their rates."""
    return Stepper(rules, optimizer, lr) if isinstance(optimizer, OptimizerSpec) else BlockSteppers(rules, optimizer)
