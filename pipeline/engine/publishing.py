"""A slow broadcast: the last block publishes a tensor every R steps, and all blocks use the same version of it.

A block that has been through t steps uses the version after step ``R (floor(t / R) - 1)``, and the one after step 0
before that. What is published is taken over R steps later, at the end of a step, so that a snapshot has at most one
version under way; that one is kept with the last block and sent again where a run goes on.

    steps done        0   ...    R   ...   2R   ...   3R
    published         v0         vR        v2R        v3R
    in use from here  v0         v0        vR         v2R
"""

from collections.abc import Generator
from typing import Any

from torch import Tensor

from pipeline.engine.message import Kind
from pipeline.engine.program import Program
from pipeline.engine.requests import Request
from pipeline.schedules.plan import Plan
from pipeline.schedules.position import Position

__all__ = ["MOST_UNDER_WAY", "PublishingProgram"]

MOST_UNDER_WAY = 3
"""Versions that may wait on an edge: a stage that has not yet taken one over cannot have let the last stage come to the
end of the steps after the next."""


class PublishingProgram(Program):
    """A program that sends versions to the stages below, or takes them from the last one. Stages have one process each.

    Args:
        arguments, options: see :class:`Program`.
        every: R.
        epochs: of the run: a version that no block will take over is not sent.
    """

    def __init__(self, *arguments: Any, every: int, epochs: int, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._every = every
        self._has_begun = False
        self._total = epochs * self.batching.num_steps
        last = self.stage.num_blocks - 1
        self._source = self.stage.rules.get(last)
        self._users = [rule for k, rule in self.stage.rules.items() if k != last]

    def run(self) -> Generator[Request, Any, None]:
        """See :class:`Program`."""
        yield from super().run()
        newest = self.steps - self.steps % self._every
        is_left = self._has_begun and newest > 0 and self._is_sent(newest)  # the run has ended before its time
        if self._source is None and is_left:
            yield from self._version_after(newest)

    def _train(self, plan: Plan, done: int) -> Generator[Request, Any, None]:
        """See :class:`Program`; first of all, what was under way. Not before there is a plan: then all stages are
        ready, and nobody waits for one that is still connecting to another."""
        if not self._has_begun:
            self._has_begun = True
            yield from self._begin()
        yield from super()._train(plan, done)

    def _begin(self) -> Generator[Request, Any, None]:
        """The first version, or the one that was on its way where the run goes on."""
        cut = self._start.cut
        done = cut.epoch * self.batching.num_steps + cut.step
        if done == 0:
            yield from self._hand_on(0)
        elif self._source is not None and done >= self._every:
            yield from self._send_version(done - done % self._every)

    def _step(self, position: Position) -> Generator[Request, Any, None]:
        """See :class:`Program`."""
        yield from super()._step(position)
        done = position.step + 1
        if done % self._every == 0:
            yield from self._hand_on(done)

    def _hand_on(self, done: int) -> Generator[Request, Any, None]:
        """So many steps are done, and the blocks go over to the next version; after the first ``every`` of them they
        go on with that after step 0, and also where the run was gone on with under another number."""
        if self._source is not None:
            if done == 0:
                self._source.published.copy_(self._source.to_publish())
            if done != self._every:
                self._take_over(self._source.published)
            self._source.published.copy_(self._source.to_publish())
            yield from self._send_version(done)
        elif done != self._every:
            self._take_over((yield from self._version_after(max(0, done - self._every))))

    def _take_over(self, published: Tensor) -> None:
        """The blocks below the last one use this version now."""
        for rule in self._users:
            rule.published.copy_(published)

    def _send_version(self, step: int) -> Generator[Request, Any, None]:
        """The version after ``step``, to all other stages, if they will take it over."""
        assert self._source is not None, "the last stage sends"
        if not self._is_sent(step):
            return
        for dst in range(self.num_stages - 1):
            yield self._send(dst, Kind.PUBLISHED, Position(0, step), (self._source.published,))

    def _is_sent(self, step: int) -> bool:
        """Some block takes the version after ``step`` over, unless the run ends early."""
        return step == 0 or step + self._every <= self._total

    def _version_after(self, step: int) -> Generator[Request, Any, Tensor]:
        """That version, from the last stage."""
        message = yield from self._receive(self.num_stages - 1, Kind.PUBLISHED, Position(0, step))
        return message.tensors[0]
