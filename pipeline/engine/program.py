"""A stage's program: its work from the first batch to the last, as a generator of requests.

The program says *what* happens *when*; it never waits by itself. Its driver answers its requests: a process over a
transport (``workers.worker``), or one thread that takes turns between all stages (``workers.launchers.inline``). So
the loop is the same wherever the stages are, and this is the loop:

    for action in order:            F  request an activation (or take a batch); group by group run forward and learn,
                                       the last one after its activation has been sent on
                                    L  request feedback, learn, send feedback on
                                    S  step
"""

from collections.abc import Generator, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from pipeline.data.activation_cache import Allocate
from pipeline.data.batches import Batches
from pipeline.engine.feeds import Feed, Feeds, repeated
from pipeline.engine.guard import Guard
from pipeline.engine.in_flight import Outbound
from pipeline.engine.message import Kind, Message
from pipeline.engine.requests import EpochReport, NextPlan, Progress, Receive, Request, Send, Snapshot
from pipeline.engine.settling import Settling
from pipeline.engine.stage import Stage
from pipeline.engine.start import Start
from pipeline.learning.rule import Topology
from pipeline.numerics.memory_format import from_wire, to_wire
from pipeline.records.time_budget import Activity, TimeBudget
from pipeline.schedules.actions import Action, Op
from pipeline.schedules.batching import Batching
from pipeline.schedules.cuts import Cut, Cuts
from pipeline.schedules.plan import Plan
from pipeline.schedules.position import EVALUATION, NOWHERE, Position

__all__ = ["Program"]


class Program:
    """One stage's part in a run.

    Args:
        stage: the blocks.
        stage_index: of this stage.
        num_stages: of the pipeline.
        batching: how the data is cut.
        train, test: the data set's splits; None on stages that do not host block 0.
        budget: where the stage's time is booked.
        seed: the run's, for the order of kept inputs.
        allocate: memory for kept inputs.
        cuts: where the run is written down.
        start: where it goes on; None starts it.
    """

    def __init__(
        self,
        stage: Stage,
        stage_index: int,
        num_stages: int,
        batching: Batching,
        train: Feed | None,
        test: Feed | None,
        budget: TimeBudget,
        seed: int,
        allocate: Allocate,
        cuts: Cuts,
        start: Start | None = None,
    ) -> None:
        self.stage = stage
        self.stage_index = stage_index
        self.num_stages = num_stages
        self.batching = batching
        self.budget = budget
        self.steps, self.guard = 0, Guard(stage, batching)
        self.data_arrays = [array for split in (train, test) if isinstance(split, Batches) for array in split.arrays]
        self._cuts, self._start = cuts, start or Start()
        self._counts = batching.counts()
        self._train_feeds = Feeds(train, batching.num_train, batching.batch_size, seed, allocate, stage.device)
        self._test_feeds = Feeds(test, batching.num_test, batching.eval_batch_size, None, allocate, stage.device)

    def run(self) -> Generator[Request, Any, None]:
        """The whole run; see the module's docstring."""
        epoch = self._start.cut.epoch
        self.steps = epoch * self.batching.num_steps
        while (plan := (yield NextPlan(epoch))) is not None:
            done = 0
            if epoch == self._start.cut.epoch:
                done = yield from self._go_on(plan, self._start)
            elif self._cuts.starts(epoch):
                yield Snapshot(Cut(epoch))
            yield from self._train(plan, done)
            if plan.evaluate:
                self.budget.enter(Activity.EVAL)
                yield from self._evaluate(plan)
            self.budget.enter(Activity.OTHER)
            self._train_feeds.forget(plan)
            self._test_feeds.forget(plan)
            row = self.guard.report(epoch, self.stage_index, self.steps - 1)
            if (lost := self._train_feeds.lost or self._test_feeds.lost) is not None:
                row["cache_lost"] = lost
            yield EpochReport(row)
            epoch += 1

    # -- training ----------------------------------------------------------------------------------------------

    def _train(self, plan: Plan, done: int) -> Generator[Request, Any, None]:
        """One pass over the training set, but for its first ``done`` steps."""
        self.stage.begin(plan)
        if done:
            self._start.restore_scores(self.stage)
        self.guard.begin(plan, done)
        first = plan.epoch * self.batching.num_steps
        self.steps = first + self.batching.num_steps
        cuts = self._cuts.inside(plan.epoch)
        if not plan.active(self.stage.blocks):
            for step in sorted(s for s in cuts if s > done):  # nothing will have changed
                yield Snapshot(Cut(plan.epoch, step))
            return
        self.stage.tap = self._train_feeds.keeper(plan, self.stage.blocks, done * self.batching.batch_size)
        for action in self._order():
            if action.step < done:
                continue
            position = Position(plan.epoch, first + action.step, action.microbatch)
            self.budget.at(position)
            if action.op is Op.STEP:
                self.budget.enter(Activity.LEARN)
                self.stage.step()
                yield Progress(plan.epoch, position.step)
                if action.step + 1 in cuts:
                    yield Snapshot(Cut(plan.epoch, action.step + 1))
            elif action.op is Op.FORWARD:
                yield from self._forward(plan, position)
            else:
                yield from self._learn(position)
        self.budget.at(NOWHERE)
        self.stage.tap = None

    def _go_on(self, plan: Plan, start: Start) -> Generator[Request, Any, int]:
        """Fills again what earlier steps have kept, where the run goes on from a cut; returns the cut's step.

        Frozen blocks run forward over the data once more: what they give is the same, whatever batch a sample is in.
        """
        step = start.cut.step
        if plan.source > 0:
            refill = plan.forward_only(plan.source, 0)
            yield from self._forward_only(refill, self.batching.num_steps)
            self._train_feeds.check_kept()
            yield from self._evaluate(refill)
            self._test_feeds.check_kept()
        if plan.store and step > 0:
            yield from self._forward_only(plan.forward_only(plan.top, plan.source), step)
            self._train_feeds.check_kept()
        self.stage.samples = start.samples
        return step

    def _forward_only(self, plan: Plan, num_steps: int) -> Generator[Request, Any, None]:
        """The first ``num_steps`` batches of ``plan``'s epoch, through frozen blocks, into the cache."""
        self.stage.begin(plan)
        if not plan.active(self.stage.blocks):
            return
        self.stage.tap = self._train_feeds.keeper(plan, self.stage.blocks)
        for step in range(num_steps):
            for microbatch in range(self._counts[step]):
                position = Position(plan.epoch, plan.epoch * self.batching.num_steps + step, microbatch)
                yield from self._forward(plan, position)
        self.stage.tap = None

    def _order(self) -> Iterator[Action]:
        """This epoch's list of work."""
        return self.batching.order(
            self._counts, stage_index=self.stage_index, num_stages=self.num_stages,
            in_flight=self.batching.in_flight_at(self.stage_index, self.num_stages),
            feedback=self.stage.topology is not Topology.LOCAL,
        )  # fmt: skip

    def _forward(self, plan: Plan, position: Position) -> Generator[Request, Any, None]:
        """F: each group of blocks learns as soon as it has run forward. The stage's activation goes downstream before
        its last block learns, computed with the weights before this step's update."""
        key = self._key(position)
        if plan.source in self.stage.blocks:
            self.budget.enter(Activity.TRANSFER)
            x, y, weight = self._take(plan, position)
        else:
            message = yield from self._receive(self.stage_index - 1, Kind.TRAIN, position)
            x, y, weight = *message.tensors, message.weight
        learned: list[Outbound] = []
        for group in self.stage.groups:
            self.budget.enter(Activity.FORWARD)
            x = self.stage.forward(key, x, y, weight, group)
            if group is self.stage.groups[-1] and plan.goes_beyond(self.stage.blocks):
                yield self._send(self.stage_index + 1, Kind.TRAIN, position, (x, y), weight)
            self.budget.enter(Activity.LEARN)
            learned += self.stage.learn_at_once(key)  # rules with feedback learn when it comes
        yield from self._send_feedback(position, learned)

    def _take(self, plan: Plan, position: Position) -> tuple[Tensor, Tensor, float]:
        """A micro-batch of the data, its labels, and its share of the samples of its step."""
        index = position.step % self.batching.num_steps
        return self._train_feeds.microbatch(plan.source, plan.epoch, index, self._counts[index])

    def _learn(self, position: Position) -> Generator[Request, Any, None]:
        """L: learn from feedback, and hand down what the block below needs before the optimizer steps."""
        if not self.stage.waits:
            return
        key = self._key(position)
        incoming: tuple[Tensor, ...] = ()
        if self.stage.topology is Topology.SETTLE:
            yield from self._settle(position, self.stage.settling(key), Activity.LEARN)
        if self.stage.needs_incoming:
            broadcast = self.stage.topology is Topology.BROADCAST
            src = self.num_stages - 1 if broadcast else self.stage_index + 1
            incoming = (yield from self._receive(src, Kind.FEEDBACK, position)).tensors
        self.budget.enter(Activity.LEARN)
        yield from self._send_feedback(position, self.stage.learn(key, incoming))

    def _settle(
        self, position: Position, settling: Settling, activity: Activity
    ) -> Generator[Request, Any, None]:
        """All rounds of an exchange with both neighbours: every stage sends, then every stage receives."""
        below: tuple[Tensor, ...] = ()
        above: tuple[Tensor, ...] = ()
        lower, upper = self.stage_index - 1, self.stage_index + 1
        has_lower, has_upper = lower >= 0, upper < self.num_stages
        for index in range(settling.num_rounds):
            self.budget.enter(activity)
            with torch.set_grad_enabled(activity is Activity.LEARN):
                down, up = settling.round(index, below, above)
            if index == settling.num_rounds - 1:
                return
            if has_lower:
                yield self._send(lower, Kind.SETTLE, position, down)
            if has_upper:
                yield self._send(upper, Kind.SETTLE, position, up)
            if has_lower:
                below = (yield from self._receive(lower, Kind.SETTLE, position)).tensors
            if has_upper:
                above = (yield from self._receive(upper, Kind.SETTLE, position)).tensors

    def _send_feedback(self, position: Position, outbound: Sequence[Outbound]) -> Generator[Request, Any, None]:
        """Feedback to the stage below, or to all of them."""
        for out in outbound:
            targets = range(self.num_stages) if out.to_all else [self.stage_index - 1]
            for dst in targets:
                if dst != self.stage_index and dst >= 0:
                    yield self._send(dst, Kind.FEEDBACK, position, out.tensors)

    def _key(self, position: Position) -> int:
        """Of a training micro-batch, unique in the run and the same on every stage."""
        return position.step * self.batching.microbatches + position.microbatch

    # -- evaluation --------------------------------------------------------------------------------------------

    def _evaluate(self, plan: Plan) -> Generator[Request, Any, None]:
        """The test set, behind the training set on the same edges: every stage meets it after the same step. Where
        samples go through several times, they do so as one batch of as many copies."""
        if not plan.active(self.stage.blocks):
            return
        passes = self.batching.eval_passes
        evaluation = self.stage.begin_evaluation()
        tap = self._test_feeds.keeper(plan, self.stage.blocks)
        for index in range(self.batching.num_eval_batches):
            position = Position(plan.epoch, index)
            self.budget.at(position._replace(microbatch=EVALUATION))
            if plan.source in self.stage.blocks:
                x, y = (repeated(t, passes) for t in self._test_feeds.batch(plan.source, plan.epoch, index))
            else:
                x, y = (yield from self._receive(self.stage_index - 1, Kind.EVAL, position)).tensors
            self.budget.enter(Activity.EVAL)
            out, contexts = evaluation.forward(x, y, index, tap)
            if plan.goes_beyond(self.stage.blocks):
                yield self._send(self.stage_index + 1, Kind.EVAL, position, (out, y))
            if self.stage.topology is Topology.SETTLE:
                yield from self._settle(position, evaluation.settling(contexts), Activity.EVAL)
            self.budget.enter(Activity.EVAL)
            evaluation.score(contexts, y, passes)
            yield Progress(plan.epoch, self.steps - 1)
        self.budget.at(NOWHERE)

    # -- messages ----------------------------------------------------------------------------------------------

    def _send(
        self, dst: int, kind: Kind, position: Position, tensors: tuple[Tensor, ...], weight: float = 1.0
    ) -> Send:
        """The request to send a message."""
        return Send(dst, Message(kind, position, weight, to_wire(tensors) if self.stage.channels_last else tensors))

    def _receive(self, src: int, kind: Kind, position: Position) -> Generator[Request, Any, Message]:
        """The message that is due from ``src``."""
        message: Message = yield Receive(src)
        if self.stage.channels_last:
            message.tensors = from_wire(message.tensors)
        if message.kind is not kind or message.position != position:
            raise RuntimeError(
                f"stage {self.stage_index} and stage {src} disagree about what comes next (given: "
                f"{message.kind.name} {tuple(message.position)}, expected: {kind.name} {tuple(position)}: epoch, step, "
                "micro-batch). This is an error in Onward or in a transport of your own."
            )
        return message
