"""Exchange of gradients between the replicas of a stage: a reduce-scatter and an all-gather whose sums keep an order.

Floating-point sums depend on their order, so an all-reduce that adds in any other than the micro-batches' own would
learn other weights than one process does. Each replica owns a chunk of every gradient. It gets that chunk of every
micro-batch, adds them in the order in which one process learns from them, and gives the sum to the others: as many
bytes as a ring sends, and the bits of one process. Losses travel along, so every replica knows the scores of all
micro-batches, and takes the same decisions (``train.nonfinite``) by itself.

Where blocks learn one after another, block k's sums are made while block k + 1 learns; small blocks go together, in
buckets. Waiting inside a step is safe there: no stage below waits for anything from above. Where feedback is awaited it
would not be (the replica that is waited for may itself wait for feedback to what this one has yet to send), so all
waiting is at the end of the step.
"""

from collections.abc import Generator, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from pipeline.engine.emulated import EmulatedRule
from pipeline.engine.gradients import vectors_of
from pipeline.engine.message import Kind, Message
from pipeline.engine.requests import Receive, Request, Send
from pipeline.engine.running_stats import RunningStats
from pipeline.engine.scores import Mark
from pipeline.engine.share import Share
from pipeline.engine.stage import Stage
from pipeline.learning.rule import Topology
from pipeline.schedules.actions import Action, Op
from pipeline.schedules.position import Position

__all__ = ["BUCKET_BYTES", "Exchange", "bucketed", "exchanged"]

Blocks = tuple[int, ...]

BUCKET_BYTES = 2**19
"""Gradients of consecutive blocks that are sent together, at least, where there are as many."""

_KINDS = (Kind.GRADIENT, Kind.SUM, Kind.STATISTICS)


def bucketed(groups: Sequence[Blocks], num_bytes: Mapping[int, int]) -> list[Blocks]:
    """Groups that learn one after another, small ones joined: a message costs as much as a few 100 KB of it.

    Args:
        groups: of blocks, in the order in which they learn.
        num_bytes: of the gradients of each block.
    """
    buckets: list[Blocks] = []
    found = BUCKET_BYTES
    for group in groups:
        if found >= BUCKET_BYTES:
            buckets.append(())
            found = 0
        buckets[-1] += group
        found += sum(num_bytes[k] for k in group)
    return buckets


def exchanged(stage: Stage, block: int) -> Sequence[nn.Parameter]:
    """Parameters whose gradients are exchanged: all that are trained, or where compute is emulated what stands for
    them."""
    rule = stage.rules[block]
    return rule.exchanged() if isinstance(rule, EmulatedRule) else stage.stepper.parameters(block)


class Exchange:
    """One replica's part in the exchange.

    Args:
        stage: its blocks.
        group: processes of all replicas of the stage, in order.
        replica: of this process.
        num_blocks: of the whole network.
    """

    def __init__(self, stage: Stage, group: range, replica: int, num_blocks: int) -> None:
        self._stage = stage
        self._group, self._replica, self._num_blocks = group, replica, num_blocks
        self._peers = [(r, process) for r, process in enumerate(group) if r != replica]
        self._vectors = {k: vectors_of(exchanged(stage, k), len(group), replica) for k in stage.blocks}
        self._num_bytes = {k: sum(vector.num_bytes for vector in vectors) for k, vectors in self._vectors.items()}
        self._is_local = stage.topology is Topology.LOCAL
        self._events: list[tuple[Action, int]] = []
        self._buckets: list[Blocks] = []
        self._num_summed = 0
        self._marks: dict[int, Mark] = {}
        self._own: dict[tuple[int, Blocks], Share] = {}
        self.stats = RunningStats(stage.rules)
        self._event = 0
        self._early: dict[tuple[int, Kind, int], Message] = {}
        self._epoch = self._step = 0

    def begin(self, events: Sequence[tuple[Action, int]], epoch: int, step: int) -> None:
        """A step begins.

        Args:
            events: all that one process would run and learn in it, in order, each with its number of samples.
            epoch, step: of the run.
        """
        stage = self._stage
        self._events, self._epoch, self._step, self._num_summed = list(events), epoch, step, 0
        self.stats.begin()
        groups = [tuple(k for k in group if k in stage.at_once) for group in stage.groups]
        together = tuple(sorted({*stage.at_once, *stage.waiting}))
        self._buckets = bucketed(groups, self._num_bytes) if self._is_local else [together]
        self._marks = {k: stage.evaluation.scores[k].mark() for blocks in self._buckets for k in blocks}
        for k in self._marks if stage.skip is not None else ():  # this replica may be dealt nothing of a short batch
            stage.skip.begin(k, stage.evaluation.scores[k])  # type: ignore[union-attr]

    def at(self, op: Op, position: Position) -> None:
        """This replica goes on to an event of the step."""
        here = op, position.microbatch
        self._event = next(i for i, (a, _) in enumerate(self._events) if (a.op, a.microbatch) == here)
        self.stats.watch(self._event if op is Op.FORWARD else None)

    def owns(self, action: Action) -> bool:
        """This replica is dealt the micro-batch."""
        return action.microbatch % len(self._group) == self._replica

    # -- what this replica has learned -------------------------------------------------------------------------

    def contribute(self, group: range) -> Generator[Request, Any, None]:
        """Those of the blocks of ``group`` that learn in this event have learned: their gradients go to their owners,
        with those of the bucket that they complete. Where blocks learn one after another, the sums of the bucket before
        are made."""
        event = self._event
        blocks = self._learners(self._events[event][0].op, group)
        if self._is_local:
            blocks = next((bucket for bucket in self._buckets if bucket[-1:] == blocks[-1:]), ())
        if not blocks:
            return
        taken = [vector.take() for k in blocks for vector in self._vectors[k]]
        scores = [self._stage.evaluation.scores[k].take_back(self._marks[k]) for k in blocks]
        present = [some for _, some in taken]
        losses, credits = [loss for loss, _, _ in scores], [credit for _, credit, _ in scores]
        answers = next((right for _, _, right in scores if right is not None), None)  # of the output block alone

        def share(replica: int) -> Share:
            return Share([chunks[replica] for chunks, _ in taken], present, losses, credits, answers)

        own = self._own[event, blocks] = share(self._replica)
        if len(self._events) > len(self._group):  # a view would keep the whole vector until the end of the step
            own.chunks = [chunk.clone() for chunk in own.chunks]
        for replica, process in self._peers:
            yield self._send(process, Kind.GRADIENT, event, blocks, share(replica).tensors(self._stage.device))
        if self._is_local and event + len(self._group) >= len(self._events):
            for ready in self._buckets[self._num_summed : self._buckets.index(blocks)]:
                yield from self._sum(ready)

    def finish(self) -> Generator[Request, Any, None]:
        """The end of a step: every parameter's ``.grad`` becomes the sum over all micro-batches."""
        for blocks in self._buckets[self._num_summed :]:
            yield from self._sum(blocks)
        for blocks in self._buckets:
            parts: dict[int, Sequence[Tensor]] = {}
            for replica, process in self._peers:
                parts[replica] = (yield from self._take(process, Kind.SUM, 0, blocks)).tensors
            vectors = [vector for k in blocks for vector in self._vectors[k]]
            parts[self._replica] = [vector.own_sum() for vector in vectors]
            for index, vector in enumerate(vectors):
                vector.put([parts[replica][index] for replica in range(len(self._group))])

    def _learners(self, op: Op, group: range) -> Blocks:
        """Those of ``group`` that learn in ``op``."""
        learners = self._stage.at_once if op is Op.FORWARD else self._stage.waiting
        return tuple(k for k in group if k in learners)

    # -- the sums in the own chunk -----------------------------------------------------------------------------

    def _sum(self, bucket: Blocks) -> Generator[Request, Any, None]:
        """Adds what all micro-batches bring to the blocks of ``bucket``, in order, and gives the sums away."""
        for event, (action, num_samples) in enumerate(self._events):
            blocks = bucket if self._is_local else self._learners(action.op, self._stage.blocks)
            if not blocks:
                continue
            if self.owns(action):
                share = self._own.pop((event, blocks))
            else:
                process = self._group[action.microbatch % len(self._group)]
                message = yield from self._take(process, Kind.GRADIENT, event, blocks)
                counts = [vector.num_parameters for k in blocks for vector in self._vectors[k]]
                share = Share.of(message.tensors, counts, len(blocks))
            self._add(share, blocks, num_samples)
        self._num_summed += 1
        sums = tuple(vector.own_sum() for k in bucket for vector in self._vectors[k])
        for _, process in self._peers:
            yield self._send(process, Kind.SUM, 0, bucket, sums)
        if self.stats.has(bucket):
            yield from self._hand_on(bucket)

    def _hand_on(self, bucket: Blocks) -> Generator[Request, Any, None]:
        """This replica's turns in the update of running statistics; ends with the values of one process."""
        forward = [(i, a.microbatch % len(self._group)) for i, (a, _) in enumerate(self._events) if a.op is Op.FORWARD]
        owners = [owner for _, owner in forward]
        watched = self._event if self._is_local else None  # this replica may be in the middle of running forward
        for turn, (event, owner) in enumerate(forward):
            if owner != self._replica:
                continue
            if turn == 0:
                self.stats.restore(bucket)
            elif owners[turn - 1] != owner:
                source = self._group[owners[turn - 1]]
                self.stats.load(bucket, (yield from self._take(source, Kind.STATISTICS, event, bucket)).tensors)
            self.stats.show_again(bucket, event)
            if turn + 1 < len(forward) and owners[turn + 1] != owner:
                target = self._group[owners[turn + 1]]
                yield self._statistics(target, forward[turn + 1][0], bucket)
        end = len(self._events)
        if owners[-1] == self._replica:
            for _, process in self._peers:
                yield self._statistics(process, end, bucket)
        else:
            source = self._group[owners[-1]]
            self.stats.load(bucket, (yield from self._take(source, Kind.STATISTICS, end, bucket)).tensors)
        self.stats.watch(watched)

    def _statistics(self, process: int, event: int, bucket: Blocks) -> Send:
        """The request to hand the running values on, to go on at ``event``."""
        return self._send(process, Kind.STATISTICS, event, bucket, tuple(self.stats.values(bucket)))

    def _add(self, share: Share, blocks: Blocks, num_samples: int) -> None:
        """Gradients to the sums, losses, credit and answers to the scores."""
        vectors = [vector for k in blocks for vector in self._vectors[k]]
        for vector, chunk, present in zip(vectors, share.chunks, share.present, strict=True):
            vector.add(chunk, present)
        for k, loss, credit in zip(blocks, share.losses, share.credits, strict=True):
            if loss is not None:
                self._stage.evaluation.scores[k].add_loss(loss, num_samples)
            if credit is not None:
                self._stage.evaluation.scores[k].add_credit(credit, num_samples)
        if share.answers is not None:
            num_answers = num_samples * self._stage.rules[blocks[-1]].spec.task.num_positions
            self._stage.evaluation.scores[blocks[-1]].answers.add_counted(share.answers, num_answers)

    # -- messages ----------------------------------------------------------------------------------------------

    def _tag(self, event: int, blocks: Blocks) -> int:
        """In place of a micro-batch's number: what a message is about, inside a step."""
        return event * self._num_blocks + blocks[0]

    def _send(self, process: int, kind: Kind, event: int, blocks: Blocks, tensors: tuple[Tensor, ...]) -> Send:
        """The request to send a message."""
        position = Position(self._epoch, self._step, self._tag(event, blocks))
        return Send(process, Message(kind, position, 1.0, tensors))

    def _take(self, process: int, kind: Kind, event: int, blocks: Blocks) -> Generator[Request, Any, Message]:
        """A message from a replica, which may have sent others before it."""
        wanted = process, kind, self._tag(event, blocks)
        while wanted not in self._early:
            message: Message = yield Receive(process)
            epoch, step, tag = message.position
            if message.kind not in _KINDS or (epoch, step) != (self._epoch, self._step):
                raise RuntimeError(
                    f"the replicas of a stage disagree about what comes next (given: {message.kind.name} of epoch "
                    f"{epoch}, step {step} from process {process}, expected: {kind.name} of epoch {self._epoch}, step "
                    f"{self._step}). This is an error in Onward or in a transport of your own."
                )
            self._early[process, message.kind, tag] = message
        return self._early.pop(wanted)
