"""What a stage says to others: activations up, feedback down, settling both ways, as requests of its program."""

from collections.abc import Generator, Sequence
from typing import Any

import torch
from torch import Tensor

from pipeline.engine.in_flight import Outbound
from pipeline.engine.message import Kind, Message
from pipeline.engine.requests import Receive, Request, Send
from pipeline.engine.settling import Settling
from pipeline.engine.stage import Stage
from pipeline.numerics.memory_format import from_wire, to_wire
from pipeline.records.time_budget import Activity, TimeBudget
from pipeline.schedules.position import Position

__all__ = ["Messenger"]


class Messenger:
    """Base of a stage's program: makes messages, and checks those that come.

    Args:
        stage: the blocks.
        stage_index: of this stage.
        num_stages: of the pipeline.
        budget: where the stage's time is booked.
    """

    def __init__(self, stage: Stage, stage_index: int, num_stages: int, budget: TimeBudget) -> None:
        self.stage = stage
        self.stage_index = stage_index
        self.num_stages = num_stages
        self.budget = budget

    def _at(self, stage: int, position: Position) -> int:
        """The process that works on the micro-batch at ``position`` in ``stage``: where each has one, its index."""
        return stage

    def _settle(
        self, position: Position, settling: Settling, activity: Activity
    ) -> Generator[Request, Any, None]:
        """All rounds of an exchange with both neighbours: every stage sends, then every stage receives."""
        below: tuple[Tensor, ...] = ()
        above: tuple[Tensor, ...] = ()
        lower, upper = self.stage_index - 1, self.stage_index + 1
        has_lower, has_upper = lower >= 0, upper < self.num_stages
        kind = Kind.SETTLE if activity is Activity.LEARN else Kind.EVAL_SETTLE
        for index in range(settling.num_rounds):
            self.budget.enter(activity)
            with torch.set_grad_enabled(activity is Activity.LEARN):
                down, up = settling.round(index, below, above)
            if index == settling.num_rounds - 1:
                return
            if has_lower:
                yield self._send(lower, kind, position, down)
            if has_upper:
                yield self._send(upper, kind, position, up)
            if has_lower:
                below = (yield from self._receive(lower, kind, position)).tensors
            if has_upper:
                above = (yield from self._receive(upper, kind, position)).tensors

    def _send_feedback(self, position: Position, outbound: Sequence[Outbound]) -> Generator[Request, Any, None]:
        """Feedback to the stage below, or to all of them."""
        for out in outbound:
            targets = range(self.num_stages) if out.to_all else [self.stage_index - 1]
            for dst in targets:
                if dst != self.stage_index and dst >= 0:
                    yield self._send(dst, Kind.FEEDBACK, position, out.tensors)

    def _send(
        self, dst: int, kind: Kind, position: Position, tensors: tuple[Tensor, ...], weight: float = 1.0
    ) -> Send:
        """The request to send a message to stage ``dst``."""
        tensors = to_wire(tensors) if self.stage.channels_last else tensors
        return Send(self._at(dst, position), Message(kind, position, weight, tensors))

    def _receive(self, src: int, kind: Kind, position: Position) -> Generator[Request, Any, Message]:
        """The message that is due from stage ``src``."""
        message: Message = yield Receive(self._at(src, position))
        if self.stage.channels_last:
            message.tensors = from_wire(message.tensors)
        if message.kind is not kind or message.position != position:
            raise RuntimeError(
                f"stage {self.stage_index} and stage {src} disagree about what comes next (given: "
                f"{message.kind.name} {tuple(message.position)}, expected: {kind.name} {tuple(position)}: epoch, step, "
                "micro-batch). This is an error in Onward or in a transport of your own."
            )
        return message
