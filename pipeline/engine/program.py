"""A stage's program: its work from the first batch to the last, as a generator of requests.

The program says *what* happens *when*; it never waits by itself. Its driver answers its requests: a process over a
transport (``workers.worker``), or one thread that takes turns between all stages (``workers.launchers.inline``). So
the loop is the same wherever the stages are, and this is the loop:

    for action in order:            F  request an activation (or take a batch); group by group run forward and learn,
                                       the last one after its activation has been sent on
                                    L  request feedback, learn, send feedback on
                                    S  step
"""

from collections.abc import Generator, Iterator
from typing import Any, ClassVar

from torch import Tensor

from pipeline.data.activation_cache import Allocate
from pipeline.data.batches import Batches
from pipeline.engine.batch_notes import BatchNotes
from pipeline.engine.chunk_notes import ChunkNotes
from pipeline.engine.feeds import Feed, Feeds, repeated
from pipeline.engine.guard import Guard
from pipeline.engine.in_flight import Outbound
from pipeline.engine.kept import as_validation, begin_choice, chosen, keep
from pipeline.engine.message import Kind
from pipeline.engine.messenger import Messenger
from pipeline.engine.requests import EpochReport, NextPlan, Progress, Request, Snapshot
from pipeline.engine.stage import Stage
from pipeline.engine.start import Start
from pipeline.learning.rule import Topology
from pipeline.records.reports import EpochRow
from pipeline.records.time_budget import Activity, TimeBudget
from pipeline.schedules.actions import Action, Op
from pipeline.schedules.batching import Batching
from pipeline.schedules.cuts import Cut, Cuts
from pipeline.schedules.plan import Plan
from pipeline.schedules.position import EVALUATION, NOWHERE, Position

__all__ = ["Program"]


class Program(Messenger):
    """One stage's part in a run.

    Args:
        stage: the blocks.
        stage_index: of this stage.
        num_stages: of the pipeline.
        batching: how the data is cut.
        train, test: the data set's splits, the latter that for validation if any; None where block 0 is not.
        budget: where the stage's time is booked.
        seed: the run's, for the order of kept inputs.
        allocate: memory for kept inputs.
        cuts: where the run is written down.
        start: where it goes on; None starts it.
        final: the test set, where it is scored at the end alone.
    """

    _tells: ClassVar[bool] = False
    """Other processes are told what was learned; see :meth:`_learned`."""

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
        final: Feed | None = None,
    ) -> None:
        super().__init__(stage, stage_index, num_stages, budget)
        self.batching = batching
        self.steps, self.guard = 0, Guard(stage, batching)
        feeds = (train, test) if final is None else (train, final, test)
        self.data_arrays = [array for feed in feeds if isinstance(feed, Batches) for array in feed.arrays]
        self._cuts, self._start = cuts, start or Start()
        self._counts = batching.counts()
        self._notes = BatchNotes.of(stage, batching, seed)
        self._chunks = ChunkNotes.of(stage.rules.values(), batching)
        stage.evaluation.chunking = batching.chunking
        self._train_feeds = Feeds(
            train, batching.num_train, batching.batch_size, seed, allocate, stage.device, self._dealt(stage_index)
        )
        self._test_feeds = Feeds(test, batching.num_scored, batching.eval_batch_size, None, allocate, stage.device)
        self._final_feeds = Feeds(final, batching.num_test, batching.eval_batch_size, None, allocate, stage.device)

    def _dealt(self, stage_index: int) -> slice:
        """Which of a batch's micro-batches this process works on."""
        return slice(None)

    def run(self) -> Generator[Request, Any, None]:
        """The whole run; see the module's docstring."""
        epoch = self._start.cut.epoch
        self.steps = epoch * self.batching.num_steps
        while (plan := (yield NextPlan(epoch))) is not None:
            if plan.scores_test:
                yield from self._score_test(plan)
                epoch += 1
                continue
            goes_on = epoch == self._start.cut.epoch
            if not goes_on and self._cuts.starts(epoch):
                yield Snapshot(Cut(epoch))
            begin_choice(self.stage, plan, goes_on=goes_on, has_begun=goes_on and self._start.cut.step > 0)
            done = (yield from self._go_on(plan, self._start)) if goes_on else 0
            yield from self._train(plan, done)
            if plan.evaluate:
                self.budget.enter(Activity.EVAL)
                yield from self._evaluate(plan)
            self.budget.enter(Activity.OTHER)
            self._train_feeds.forget(plan)
            self._test_feeds.forget(plan)
            row = self.guard.report(epoch, self.stage_index, self.steps - 1)
            if plan.choice is not None:
                row["blocks"] = [as_validation(scores) for scores in row["blocks"]]
                keep(self.stage, plan)
            if (lost := self._train_feeds.lost or self._test_feeds.lost) is not None:
                row["cache_lost"] = lost
            yield EpochReport(row)
            epoch += 1

    def _score_test(self, plan: Plan) -> Generator[Request, Any, None]:
        """The test set, once, by the weights of the epoch that was chosen."""
        self.budget.enter(Activity.EVAL)
        with chosen(self.stage, plan):
            yield from self._evaluate(plan)
        self.budget.enter(Activity.OTHER)
        row: EpochRow = {
            "epoch": plan.epoch, "stage": self.stage_index, "blocks": self.stage.scores(),
            "staleness": self.stage.staleness.epoch(), "checked": self.steps - 1, "scores_test": True,
        }  # fmt: skip
        yield EpochReport(row)

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
                yield from self._step(position)
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
        if self._notes is not None:
            self._notes.tell(position)
        if self._chunks is not None:
            self._chunks.tell(position)
        learned: list[Outbound] = []
        for group in self.stage.groups:
            self.budget.enter(Activity.FORWARD)
            x = self.stage.forward(key, x, y, weight, group)
            if group is self.stage.groups[-1] and plan.goes_beyond(self.stage.blocks):
                yield self._send(self.stage_index + 1, Kind.TRAIN, position, (x, y), weight)
            self.budget.enter(Activity.LEARN)
            learned += self.stage.learn_at_once(key)  # rules with feedback learn when it comes
            if self._tells:
                yield from self._learned(position, group)
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

    def _learned(self, position: Position, group: range) -> Generator[Request, Any, None]:
        """Some of the blocks of ``group`` have learned from a micro-batch; called where others are told of it."""
        yield from ()

    def _step(self, position: Position) -> Generator[Request, Any, None]:
        """S: apply the gradients gathered so far."""
        self.stage.step(position.step)
        yield from ()

    def _key(self, position: Position) -> int:
        """Of a training micro-batch, unique in the run and the same on every stage."""
        return position.step * self.batching.microbatches + position.microbatch

    # -- evaluation --------------------------------------------------------------------------------------------

    def _evaluate(self, plan: Plan) -> Generator[Request, Any, None]:
        """The test or validation set, behind the training set on the same edges: every stage meets it after the same
        step. Where samples go through several times, they do so as one batch of as many copies."""
        if not plan.active(self.stage.blocks):
            return
        passes = self.batching.eval_passes
        evaluation = self.stage.begin_evaluation()
        feeds, count = self._test_feeds, self.batching.num_eval_batches
        if plan.scores_test:
            feeds, count = self._final_feeds, self.batching.num_test_batches
        tap = feeds.keeper(plan, self.stage.blocks)
        for index in range(count):
            position = Position(plan.epoch, index)
            self.budget.at(position._replace(microbatch=EVALUATION))
            if plan.source in self.stage.blocks:
                x, y = (repeated(t, passes) for t in feeds.batch(plan.source, plan.epoch, index))
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
