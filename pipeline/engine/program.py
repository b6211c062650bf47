"""What one stage does from the first batch to the last, as a generator of requests.

The program says *what* happens *when*; it waits for nobody itself. Whoever drives it answers its requests: a process
over a transport (``workers.worker``), or one thread that takes turns between all stages
(``workers.launchers.inline``). So the loop is the same wherever the stages are, and this is the loop:

    for action in order:            F  request an activation (or take a batch); block by block run forward and learn,
                                       the last one after its activation has been sent on
                                    L  request feedback, learn, send feedback on
                                    S  step
"""

from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace
from typing import Any, Protocol

import torch
from torch import Tensor

from pipeline.data.activation_cache import ActivationCache, Allocate
from pipeline.engine.message import Kind, Message
from pipeline.engine.requests import EpochReport, NextPlan, Progress, Receive, Request, Send
from pipeline.engine.settling import Settling
from pipeline.engine.stage import Outbound, Stage
from pipeline.learning.rule import Topology
from pipeline.numerics.memory_format import from_wire, to_wire
from pipeline.records.time_budget import Activity, TimeBudget
from pipeline.schedules.actions import Action, Op
from pipeline.schedules.batching import Batching
from pipeline.schedules.plan import Plan

__all__ = ["Feed", "Program"]


class Feed(Protocol):
    """A source of batches: the data set, or the kept inputs of a block."""

    num_samples: int
    num_batches: int

    def batch(self, epoch: int, index: int) -> tuple[Tensor, Tensor]:
        """Inputs (batch, ...) and labels (batch,)."""


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
    ) -> None:
        self.stage = stage
        self.stage_index = stage_index
        self.num_stages = num_stages
        self.batching = batching
        self.budget = budget
        self.steps = 0
        self._seed = seed
        self._counts = batching.counts()
        self._allocate = allocate
        self._train_feeds: dict[int, Feed] = {} if train is None else {0: train}
        self._test_feeds: dict[int, Feed] = {} if test is None else {0: test}
        self._batches: dict[int, list[tuple[Tensor, Tensor, float]]] = {}

    def run(self) -> Generator[Request, Any, None]:
        """The whole run; see the module's docstring."""
        epoch = 0
        while (plan := (yield NextPlan(epoch))) is not None:
            self.stage.begin(plan)
            yield from self._train(plan)
            if plan.evaluate:
                self.budget.enter(Activity.EVAL)
                yield from self._evaluate(plan)
            self.budget.enter(Activity.OTHER)
            self._forget(plan)
            staleness = self.stage.staleness.epoch()
            row = {"epoch": epoch, "stage": self.stage_index, "blocks": self.stage.scores(), "staleness": staleness}
            yield EpochReport(row)
            epoch += 1

    # -- training ----------------------------------------------------------------------------------------------

    def _train(self, plan: Plan) -> Generator[Request, Any, None]:
        """One pass over the training set."""
        first = plan.epoch * self.batching.num_steps
        self.steps = first + self.batching.num_steps
        if not plan.active(self.stage.blocks):
            return
        self.stage.tap = self._keeper(plan, self._train_feeds, self.batching.num_train, self.batching.batch_size,
                                      self._seed)  # fmt: skip
        for action in self.budget.follow(self._order(), lambda a: (plan.epoch, first + a.step, a.microbatch)):
            if action.op is Op.STEP:
                self.budget.enter(Activity.LEARN)
                self.stage.step()
                yield Progress(plan.epoch, first + action.step)
            elif action.op is Op.FORWARD:
                yield from self._forward(plan, first, action)
            else:
                yield from self._learn(plan, first, action)
        self.stage.tap = None

    def _order(self) -> Iterator[Action]:
        """This epoch's list of work."""
        return self.batching.order(
            self._counts, stage_index=self.stage_index, num_stages=self.num_stages,
            in_flight=self.batching.in_flight_at(self.stage_index, self.num_stages),
            feedback=self.stage.topology is not Topology.LOCAL,
        )  # fmt: skip

    def _forward(self, plan: Plan, first: int, action: Action) -> Generator[Request, Any, None]:
        """F: the activation goes downstream before its block learns, computed with the weights before this step's
        update. Blocks in portions, see :attr:`Stage.parts`; all but the last have learned by then."""
        step, key = first + action.step, self._key(first, action)
        if plan.source in self.stage.blocks:
            self.budget.enter(Activity.TRANSFER)
            x, y, weight = self._take(plan, action)
        else:
            message = yield from self._receive(self.stage_index - 1, Kind.TRAIN, step, action.microbatch)
            x, y = message.tensors
            weight = message.weight
        self.budget.enter(Activity.FORWARD)
        parts = self.stage.parts
        for part in parts[:-1]:
            x = self.stage.forward(key, x, y, weight, part)
            self.budget.enter(Activity.LEARN)
            self.stage.learn_at_once(key)
            self.budget.enter(Activity.FORWARD)
        out = self.stage.forward(key, x, y, weight, parts[-1])
        if plan.top >= self.stage.blocks.stop:
            yield self._send(
                self.stage_index + 1, Message(Kind.TRAIN, plan.epoch, step, action.microbatch, weight, (out, y))
            )
        self.budget.enter(Activity.LEARN)
        yield from self._send_feedback(plan, step, action, self.stage.learn_at_once(key))

    def _learn(self, plan: Plan, first: int, action: Action) -> Generator[Request, Any, None]:
        """L: learn from feedback, and hand down what the block below needs before the optimizer steps."""
        if not self.stage.waits:
            return
        step, key = first + action.step, self._key(first, action)
        incoming: tuple[Tensor, ...] = ()
        if self.stage.topology is Topology.SETTLE:
            yield from self._settle(plan, step, action.microbatch, self.stage.settling(key), Activity.LEARN)
        if self.stage.needs_incoming:
            broadcast = self.stage.topology is Topology.BROADCAST
            src = self.num_stages - 1 if broadcast else self.stage_index + 1
            message = yield from self._receive(src, Kind.FEEDBACK, step, action.microbatch)
            incoming = message.tensors
        self.budget.enter(Activity.LEARN)
        out = self.stage.learn(key, incoming)
        yield from self._send_feedback(plan, step, action, out)

    def _settle(
        self, plan: Plan, step: int, microbatch: int, settling: Settling, activity: Activity
    ) -> Generator[Request, Any, None]:
        """All rounds of an exchange with both neighbours: everyone sends, then everyone receives."""
        below: tuple[Tensor, ...] = ()
        above: tuple[Tensor, ...] = ()
        has_lower, has_upper = self.stage_index > 0, self.stage_index < self.num_stages - 1
        for index in range(settling.num_rounds):
            self.budget.enter(activity)
            with torch.set_grad_enabled(activity is Activity.LEARN):
                down, up = settling.round(index, below, above)
            if index == settling.num_rounds - 1:
                return
            if has_lower:
                yield self._send(self.stage_index - 1, Message(Kind.SETTLE, plan.epoch, step, microbatch, 1.0, down))
            if has_upper:
                yield self._send(self.stage_index + 1, Message(Kind.SETTLE, plan.epoch, step, microbatch, 1.0, up))
            if has_lower:
                below = (yield from self._receive(self.stage_index - 1, Kind.SETTLE, step, microbatch)).tensors
            if has_upper:
                above = (yield from self._receive(self.stage_index + 1, Kind.SETTLE, step, microbatch)).tensors

    def _send_feedback(
        self, plan: Plan, step: int, action: Action, outbound: Sequence[Outbound]
    ) -> Generator[Request, Any, None]:
        """Feedback to the stage below, or to all of them."""
        for out in outbound:
            message = Message(Kind.FEEDBACK, plan.epoch, step, action.microbatch, 1.0, out.tensors)
            targets = range(self.num_stages) if out.to_all else [self.stage_index - 1]
            for dst in targets:
                if dst != self.stage_index and dst >= 0:
                    yield self._send(dst, message)

    def _take(self, plan: Plan, action: Action) -> tuple[Tensor, Tensor, float]:
        """A micro-batch of the data, and its share of its batch."""
        count = self._counts[action.step]
        if count == 1:
            return *self._train_feeds[plan.source].batch(plan.epoch, action.step), 1.0
        if action.step not in self._batches:
            x, y = self._train_feeds[plan.source].batch(plan.epoch, action.step)
            self._batches[action.step] = [
                (part, labels, len(labels) / len(y))
                for part, labels in zip(x.tensor_split(count), y.tensor_split(count), strict=True)
            ]
        parts = self._batches[action.step]
        taken = parts.pop(0)
        if not parts:
            del self._batches[action.step]
        return taken

    def _key(self, first: int, action: Action) -> int:
        """Of a micro-batch, unique in the run and the same on every stage."""
        return (first + action.step) * self.batching.microbatches + action.microbatch

    # -- evaluation --------------------------------------------------------------------------------------------

    def _evaluate(self, plan: Plan) -> Generator[Request, Any, None]:
        """The test set, behind the training set on the same wires: every stage meets it after the same step. Where
        samples go through several times, they do so as one batch of as many copies."""
        if not plan.active(self.stage.blocks):
            return
        passes = self.batching.eval_passes
        self.stage.begin_evaluation()
        self.stage.tap = self._keeper(plan, self._test_feeds, self.batching.num_test, self.batching.eval_batch_size,
                                      None)  # fmt: skip
        for index in self.budget.follow(range(self.batching.num_eval_batches), lambda i: (plan.epoch, i, -1)):
            if plan.source in self.stage.blocks:
                x, y = (_repeated(t, passes) for t in self._test_feeds[plan.source].batch(plan.epoch, index))
            else:
                message = yield from self._receive(self.stage_index - 1, Kind.EVAL, index, 0)
                x, y = message.tensors
            self.budget.enter(Activity.EVAL)
            out, contexts = self.stage.evaluate(x, y, index)
            if plan.top >= self.stage.blocks.stop:
                yield self._send(self.stage_index + 1, Message(Kind.EVAL, plan.epoch, index, 0, 1.0, (out, y)))
            if self.stage.topology is Topology.SETTLE:
                settling = self.stage.evaluation_settling(contexts)
                yield from self._settle(plan, index, 0, settling, Activity.EVAL)
            self.budget.enter(Activity.EVAL)
            self.stage.score(contexts, y, passes)
            yield Progress(plan.epoch, self.steps - 1)
        self.stage.tap = None

    # -- kept inputs -------------------------------------------------------------------------------------------

    def _keeper(
        self, plan: Plan, feeds: dict[int, Feed], num_samples: int, batch_size: int, seed: int | None
    ) -> Any:
        """A tap that keeps the inputs of the training block, where the plan says so and the block is hosted here."""
        block = plan.top
        if not plan.store or block not in self.stage.blocks:
            return None
        cache = ActivationCache(num_samples, batch_size, seed, self._allocate, self.stage.device)
        feeds[block] = cache
        kept = 0

        def keep(passing: int, x: Tensor, y: Tensor) -> None:
            nonlocal kept
            if passing == block:
                cache.put(plan.epoch, kept, x, y)
                kept += len(y)

        return keep

    def _forget(self, plan: Plan) -> None:
        """Lets go of kept inputs that no later epoch starts from."""
        for feeds in (self._train_feeds, self._test_feeds):
            for block in [b for b in feeds if 0 < b < plan.top]:
                del feeds[block]

    def _send(self, dst: int, message: Message) -> Send:
        """The request to send ``message``."""
        if self.stage.channels_last:
            message = replace(message, tensors=to_wire(message.tensors))
        return Send(dst, message)

    def _receive(self, src: int, kind: Kind, step: int, microbatch: int) -> Generator[Request, Any, Message]:
        """The message that is due from ``src``."""
        message: Message = yield Receive(src)
        if self.stage.channels_last:
            message.tensors = from_wire(message.tensors)
        found = (message.kind, message.step, message.microbatch)
        if found != (kind, step, microbatch):
            raise RuntimeError(
                f"stage {self.stage_index} and stage {src} disagree about what comes next (given: {found}, "
                f"expected: {(kind, step, microbatch)}). This is an error in Onward or in a transport of your own."
            )
        return message


def _repeated(batch: Tensor, times: int) -> Tensor:
    """``batch`` below itself, ``times`` times in all."""
    return batch if times == 1 else torch.cat([batch] * times)
