"""The order of work inside an epoch, as data: forward, learn, step.

A stage walks through one of these lists; who runs where and when messages arrive cannot change it. That is why late
feedback is reproducible: a block learns from batch n just before it would be allowed to send batch n + in_flight,
whether the feedback came early or not, on any number of stages.

    in_flight = 1   F0 L0 S  F1 L1 S  F2 L2 S                   nothing is late
    in_flight = 3   F0  F1  F2 L0 S  F3 L1 S  F4 L2 S  L3 S L4 S        two steps late

``gpipe`` is ``in_flight = 1`` with several micro-batches; ``1f1b`` does the same work in another order:

    gpipe           F0 F1 F2 F3 L0 L1 L2 L3 S
    1f1b, stage 0 of 2:  F0 F1 L0 F2 L1 F3 L2 L3 S
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

__all__ = ["Action", "Op", "Order", "one_f_one_b", "stream"]


class Op(Enum):
    """A stage's next operation."""

    FORWARD = "F"
    """Run forward, send on, and let the blocks learn that need no feedback."""
    LEARN = "L"
    """Take the feedback and let the other blocks learn."""
    STEP = "S"
    """Apply the gradients gathered so far."""


@dataclass(frozen=True, slots=True)
class Action:
    """One entry of a stage's list."""

    op: Op
    step: int
    """Inside the epoch, from 0."""
    microbatch: int = 0

    def __str__(self) -> str:
        return f"{self.op.value}{self.step}.{self.microbatch}"


class Order(Protocol):
    """The order of one stage's actions in one epoch."""

    def __call__(
        self, counts: Sequence[int], *, stage_index: int, num_stages: int, in_flight: int, feedback: bool
    ) -> Iterator[Action]:
        """The actions, in order.

        Args:
            counts: micro-batches of each optimizer step of the epoch.
            stage_index: of the stage.
            num_stages: of the pipeline.
            in_flight: batches sent on before the oldest is learned from.
            feedback: a block of the run waits for feedback; without, learning is part of FORWARD.
        """


def stream(
    counts: Sequence[int], *, in_flight: int, feedback: bool, stage_index: int = 0, num_stages: int = 1
) -> Iterator[Action]:
    """The order without a flush between steps, the same on every stage; see :class:`Order`."""
    num_steps = len(counts)
    for step in range(num_steps):
        yield from (Action(Op.FORWARD, step, m) for m in range(counts[step]))
        if not feedback:
            yield Action(Op.STEP, step)
            continue
        if in_flight > 1:  # the last block has learned at once, and steps before older batches come back
            yield Action(Op.STEP, step)
        if step >= in_flight - 1:
            yield from _learn_and_step(step - in_flight + 1, counts)
    if feedback:
        for step in range(max(0, num_steps - in_flight + 1), num_steps):
            yield from _learn_and_step(step, counts)


def _learn_and_step(step: int, counts: Sequence[int]) -> Iterator[Action]:
    """All of one batch's learning."""
    yield from (Action(Op.LEARN, step, m) for m in range(counts[step]))
    yield Action(Op.STEP, step)


def one_f_one_b(
    counts: Sequence[int], *, stage_index: int, num_stages: int, in_flight: int = 1, feedback: bool = True
) -> Iterator[Action]:
    """1F1B with a flush after each step (Narayanan et al. 2019, PipeDream-Flush); see :class:`Order`.

    Stage s runs ``num_stages - s`` micro-batches forward, then alternates, so that it holds no more than that many.
    """
    for step, count in enumerate(counts):
        warmup = min(count, num_stages - stage_index)
        yield from (Action(Op.FORWARD, step, m) for m in range(warmup))
        for m in range(count):
            yield Action(Op.LEARN, step, m)
            if m + warmup < count:
                yield Action(Op.FORWARD, step, m + warmup)
        yield Action(Op.STEP, step)
