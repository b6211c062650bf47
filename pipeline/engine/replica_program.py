"""The program of one of several replicas of a stage: its share of the micro-batches, and the exchange at each step.

The actions are those of one process, less the micro-batches that other replicas are dealt. What is not of a step,
evaluation and snapshots, is the first replica's.

The others wait while it evaluates, and it tells them of every test batch that it has scored. So no wait is longer than
that of a stage for a batch of the one below it, however many batches there are, and ``run.timeout_s`` bounds each.
"""

from collections.abc import Callable, Generator, Iterator
from itertools import count
from typing import Any

from torch import Tensor

from pipeline.engine.exchange import Exchange
from pipeline.engine.message import Kind, Message
from pipeline.engine.program import Program
from pipeline.engine.requests import Progress, Request, Send
from pipeline.engine.stage import Stage
from pipeline.errors import ConfigError
from pipeline.learning.rule import Topology
from pipeline.records.time_budget import Activity
from pipeline.schedules.actions import Action, Op
from pipeline.schedules.plan import Plan
from pipeline.schedules.position import EVALUATION, NOWHERE, Position
from pipeline.schedules.replicas import Replicas

__all__ = ["ReplicaProgram"]


class ReplicaProgram(Program):
    """One process's part in a run in which stages have replicas.

    Args:
        stage, stage_index, args: as of :class:`Program`.
        replicas: processes of each stage.
        replica: of this process, in its stage.
    """

    _tells = True

    def __init__(self, stage: Stage, stage_index: int, *args: Any, replicas: Replicas, replica: int) -> None:
        self.replica = replica
        self._replicas = replicas
        super().__init__(stage, stage_index, *args)
        group = replicas.group(stage_index)
        self._exchange = Exchange(stage, group, replica, stage.num_blocks) if len(group) > 1 else None
        self._epoch = 0
        self._versions: dict[tuple[int, str], tuple[Tensor, int]] = {}

    def _dealt(self, stage_index: int) -> slice:
        """See :class:`Program`."""
        return slice(self.replica, None, self._replicas.counts[stage_index])

    def _at(self, stage: int, position: Position) -> int:
        """See :class:`pipeline.engine.messenger.Messenger`."""
        return self._replicas.process(stage, position.microbatch)

    def _train(self, plan: Plan, done: int) -> Generator[Request, Any, None]:
        """See :class:`Program`."""
        self._epoch = plan.epoch
        yield from super()._train(plan, done)

    def _order(self) -> Iterator[Action]:
        """This replica's part of the epoch's list of work."""
        if self._exchange is None:
            yield from super()._order()
            return
        events: list[Action] = []
        for action in super()._order():
            if action.op is not Op.STEP:
                events.append(action)
                continue
            step = self._epoch * self.batching.num_steps + action.step
            self._versions = self._buffer_versions()
            self._exchange.begin([(e, self.batching.samples_of(e)) for e in events], self._epoch, step)
            yield from (event for event in events if self._exchange.owns(event))
            yield action
            events = []

    def _forward(self, plan: Plan, position: Position) -> Generator[Request, Any, None]:
        """See :class:`Program`."""
        if self._exchange is not None:
            self._exchange.at(Op.FORWARD, position)
        yield from super()._forward(plan, position)
        if self._exchange is not None and self.stage.topology is not Topology.LOCAL:
            yield from self._booked(self._exchange.contribute(self.stage.blocks))

    def _learned(self, position: Position, group: range) -> Generator[Request, Any, None]:
        """See :class:`Program`; feedback is sent before gradients, and so not from here."""
        if self._exchange is not None and self.stage.topology is Topology.LOCAL:
            yield from self._booked(self._exchange.contribute(group))

    def _learn(self, position: Position) -> Generator[Request, Any, None]:
        """See :class:`Program`."""
        if self._exchange is not None:
            self._exchange.at(Op.LEARN, position)
        yield from super()._learn(position)
        if self._exchange is not None:
            yield from self._booked(self._exchange.contribute(self.stage.blocks))

    def _step(self, position: Position) -> Generator[Request, Any, None]:
        """See :class:`Program`."""
        if self._exchange is not None:
            self._check_buffers()
            yield from self._booked(self._exchange.finish())
        yield from super()._step(position)

    def _evaluate(self, plan: Plan) -> Generator[Request, Any, None]:
        """See :class:`Program`: the first replica's, whose scores are then of all samples."""
        if self.replica == 0:
            yield from self._told(super()._evaluate(plan), plan.epoch)
        elif plan.active(self.stage.blocks):
            for index in range(self.batching.num_test_batches if plan.scores_test else self.batching.num_eval_batches):
                self.budget.at(Position(plan.epoch, index, EVALUATION))
                yield from self._receive(self.stage_index, Kind.SCORED, Position(plan.epoch, index))
            self.budget.at(NOWHERE)

    def _told(self, requests: Generator[Request, Any, None], epoch: int) -> Generator[Request, Any, None]:
        """The same requests, and one to each other replica behind every test batch: each makes its progress known."""
        batches = count()

        def then(request: Request) -> Iterator[Request]:
            """What the others are told."""
            if isinstance(request, Progress):
                position = Position(epoch, next(batches))
                for process in self._replicas.group(self.stage_index)[1:]:
                    yield Send(process, Message(Kind.SCORED, position, 1.0, ()))

        return _followed(requests, then)

    def _booked(self, requests: Generator[Request, Any, None]) -> Generator[Request, Any, None]:
        """The same requests; what happens between them is booked as learning."""

        def then(_: Request) -> Iterator[Request]:
            """Nothing is asked."""
            self.budget.enter(Activity.LEARN)
            return iter(())

        return _followed(requests, then)

    def _check_buffers(self) -> None:
        """Refuses blocks that note something at each micro-batch: each replica would note its own.

        Raises:
            ConfigError: a buffer has changed in training.
        """
        now = self._buffer_versions()
        before = self._versions
        changed = [k for k in now if now[k][0] is not before[k][0] or now[k][1] != before[k][1]]
        if changed:
            block, name = changed[0]
            raise ConfigError(
                f"block {block} changes its buffer {name} at each micro-batch, and each of the replicas would see its "
                "own micro-batches only (run.replicas, expected: 1 for such a block). Leave run.replicas out, or keep "
                "nothing from batch to batch."
            )

    def _buffer_versions(self) -> dict[tuple[int, str], tuple[Tensor, int]]:
        """Each buffer of the stage's blocks, and how often it has been written to."""
        known = {id(value) for value in self._exchange.stats.values(self.stage.blocks)} if self._exchange else set()
        return {
            (k, name): (buffer, buffer._version)
            for k, rule in self.stage.rules.items() for name, buffer in rule.named_buffers() if id(buffer) not in known
        }  # fmt: skip


def _followed(
    requests: Generator[Request, Any, None], then: Callable[[Request], Iterator[Request]]
) -> Generator[Request, Any, None]:
    """The same requests, and behind each, once it is answered, those that ``then`` makes of it."""
    reply = None
    while True:
        try:
            request = requests.send(reply)
        except StopIteration:
            return
        reply = yield request
        yield from then(request)
