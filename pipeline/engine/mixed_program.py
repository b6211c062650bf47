"""The program of a stage in a run whose blocks do not all learn by one topology.

A class of its own, so that one of a single rule does nothing for it. Each stage is sent what its blocks learn from,
and nothing else. Where the last stage both broadcasts and returns to the stage right below it, the two travel over one
edge and may be sent in another order than they are asked for: what comes early is kept.
"""

from collections.abc import Generator, Sequence
from typing import Any

from pipeline.engine.in_flight import Outbound
from pipeline.engine.message import Kind, Message
from pipeline.engine.mixed_stage import MixedStage
from pipeline.engine.program import Program
from pipeline.engine.requests import Receive, Request
from pipeline.mixture.routes import Routes
from pipeline.numerics.memory_format import from_wire
from pipeline.records.time_budget import Activity
from pipeline.schedules.position import Position

__all__ = ["MixedProgram", "listeners"]

_FEEDBACK = (Kind.FEEDBACK, Kind.BROADCAST)


def listeners(routes: Routes, partition: Sequence[range]) -> list[int]:
    """The stages to which the last one broadcasts."""
    return [s for s, blocks in enumerate(partition[:-1]) if any(map(routes.awaits_broadcast, blocks))]


class MixedProgram(Program):
    """See the module's docstring.

    Args:
        stage: the blocks.
        arguments: see :class:`Program`.
        to: the stages that await a broadcast.
        options: see :class:`Program`.
    """

    def __init__(self, stage: MixedStage, *arguments: Any, to: Sequence[int], **options: Any) -> None:
        super().__init__(stage, *arguments, **options)
        self._mixed, self._to = stage, to
        self._early: dict[tuple[Kind, Position], Message] = {}

    def _learn(self, position: Position) -> Generator[Request, Any, None]:
        """See :class:`Program`."""
        if not self.stage.waits:
            return
        key, last = self._key(position), self.num_stages - 1
        if self._mixed.needs_broadcast:
            message = yield from self._awaited(last, Kind.BROADCAST, position)
            self._mixed.take_broadcast(key, message.tensors)
        if self._mixed.needs_above:
            message = yield from self._awaited(self.stage_index + 1, Kind.FEEDBACK, position)
            self._mixed.take_above(key, message.tensors)
        self.budget.enter(Activity.LEARN)
        yield from self._send_feedback(position, self.stage.learn(key, ()))

    def _awaited(self, src: int, kind: Kind, position: Position) -> Generator[Request, Any, Message]:
        """What is due from a stage."""
        both = self._mixed.needs_broadcast and self._mixed.needs_above and self.stage_index + 2 == self.num_stages
        if not both:
            return (yield from self._receive(src, kind, position))
        while (kind, position) not in self._early:
            message: Message = yield Receive(src)
            if self.stage.channels_last:
                message.tensors = from_wire(message.tensors)
            if message.kind not in _FEEDBACK or message.position < position:
                raise RuntimeError(
                    f"stage {self.stage_index} and stage {src} disagree about what comes next (given: "
                    f"{message.kind.name} {tuple(message.position)}, expected: {kind.name} {tuple(position)} or "
                    "later). This is an error in Onward or in a transport of your own."
                )
            self._early[message.kind, message.position] = message
        return self._early.pop((kind, position))

    def _send_feedback(self, position: Position, outbound: Sequence[Outbound]) -> Generator[Request, Any, None]:
        """See :class:`Messenger`; to the stages that await it."""
        for out in outbound:
            for dst in self._to if out.to_all else [self.stage_index - 1]:
                yield self._send(dst, Kind.BROADCAST if out.to_all else Kind.FEEDBACK, position, out.tensors)
