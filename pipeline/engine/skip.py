"""Leaving out batches (``train.nonfinite = "skip"``): a block's part in an optimizer step, undone before the step.

A batch counts for a block if all its losses and all gradients of that block are finite. Else the block is left as
though the batch had not been there: weights and optimizer state are not stepped, buffers are those from before its
forward pass, and neither loss, credit nor lateness counts it. Each block decides by its own numbers alone, so the
decision is the same on any number of stages. It needs steps that do not overlap: forward, learn, step.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.engine.scores import Mark, Scores
from pipeline.learning.rule import LearningRule
from pipeline.network.recurrent import Carried, carried_in
from pipeline.numerics.finite import all_finite

__all__ = ["Skip"]


@dataclass(slots=True)
class _Before:
    """A block before a step."""

    buffers: list[tuple[Tensor, Tensor]]
    """Each with a copy."""
    carried: list[tuple[Carried, Tensor | None]]
    """Each with a copy of its state; without one where a sequence begins: what is left of another is not its own."""
    scores: Scores
    mark: Mark


class Skip:
    """Decides for the blocks of a stage.

    Args:
        rules: of the hosted blocks, by block.
    """

    def __init__(self, rules: Mapping[int, LearningRule]) -> None:
        self._rules = rules
        self._before: dict[int, _Before] = {}

    def begin(self, block: int, scores: Scores) -> None:
        """``block`` is about to run a micro-batch forward; remembers its state if that is the step's first."""
        if block not in self._before:
            buffers = [(buffer, buffer.clone()) for buffer in self._rules[block].buffers()]
            carried = [
                (held, None if held.state is None or held.begins else held.state.clone())
                for _, held in carried_in(self._rules[block])
            ]
            self._before[block] = _Before(buffers, carried, scores, scores.mark())

    @torch.no_grad()
    def decide(self) -> list[int]:
        """Before the optimizer steps: undoes the step of every block that has to leave it out, and returns those.

        Reading the decision waits for the device.
        """
        numbers = {k: self._numbers(k, before) for k, before in self._before.items()}
        left_out = [k for k, fine in all_finite(numbers).items() if not fine]
        for k in left_out:
            before = self._before[k]
            for buffer, copy in before.buffers:
                buffer.copy_(copy)
            for held, state in before.carried:
                held.state = state
            for parameter in self._rules[k].parameters():
                parameter.grad = None
            before.scores.leave_out(before.mark)
        self._before.clear()
        return left_out

    def _numbers(self, block: int, before: _Before) -> list[Tensor]:
        """Losses and gradients of a block in this step."""
        gradients = [p.grad for p in self._rules[block].parameters() if p.grad is not None]
        return [*before.scores.since(before.mark), *gradients]
