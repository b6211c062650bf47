"""A pipeline as a discrete-event simulation of the action lists that its stages will execute.

A pure function of times: what each stage takes for the parts of its actions, what each wire takes for a message, how
many messages may wait, how many cores the stages share. Nothing here knows a rule, a transport or a machine.
"""

import math
from collections import deque
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field

from pipeline.planning.clock import Clock
from pipeline.planning.stage_model import Outcome, Part, Port, StageModel, Wire, walk
from pipeline.schedules.actions import Op

__all__ = ["simulate"]


def simulate(
    stages: Sequence[StageModel], wires: Mapping[tuple[int, int, Port], Wire], cores: float = math.inf
) -> Outcome:
    """Runs every stage through its actions.

    Args:
        stages: of the pipeline, in order.
        wires: by sender, receiver and the port that the message leaves by, PASS or TELL.
        cores: that the stages of a host share; without a number, each has one of its own.

    Raises:
        ValueError: stages wait for each other for ever.
    """
    return _Run(stages, wires, cores).run()


@dataclass
class _Queue:
    """Messages on one wire between two processes."""

    wire: Wire
    lane: object
    arrivals: deque[float] = field(default_factory=deque)
    """Moments at which messages that were sent and not taken arrive."""
    places: int = 0
    """Places in the queue that are taken."""
    blocked: list[int] = field(default_factory=list)
    """Processes that look again when something changes."""


@dataclass(frozen=True)
class _Work:
    seconds: float
    needs_core: bool


@dataclass(frozen=True)
class _Until:
    moment: float


_Body = Generator[_Work | _Until | _Queue, None, None]
"""What a process waits for: work to be done, a moment, a change of a queue."""


@dataclass
class _Process:
    """A replica of a stage."""

    stage: int
    replica: int
    busy_s: float = 0.0
    working_s: float = 0.0
    waits_s: dict[str, float] = field(default_factory=lambda: {port.value: 0.0 for port in Port})


class _Run:
    """One simulation; see :func:`simulate`."""

    def __init__(
        self, stages: Sequence[StageModel], wires: Mapping[tuple[int, int, Port], Wire], cores: float
    ) -> None:
        self._stages = stages
        self._wires = wires
        self._queues: dict[tuple[int, int, int, int, Port], _Queue] = {}
        self._lanes: dict[object, float] = {}
        self._here: dict[tuple[int, int], int] = {}
        self._processes = [_Process(s, r) for s, stage in enumerate(stages) for r in range(stage.replicas)]
        self._clock = Clock(cores, [stages[p.stage].slowdown for p in self._processes],
                            [stages[p.stage].host for p in self._processes])  # fmt: skip
        self._ready = deque(range(len(self._processes)))
        self._synced = {s: _Queue(Wire(), None) for s in range(len(stages))}
        self._ends: list[dict[int, float]] = [{} for _ in stages]

    def run(self) -> Outcome:
        """Until every process has come to its end."""
        bodies = [self._body(process) for process in self._processes]
        left = set(range(len(bodies)))
        while True:
            while self._ready:
                index = self._ready.popleft()
                request = next(bodies[index], None)
                if request is None:
                    left.discard(index)
                elif isinstance(request, _Queue):
                    request.blocked.append(index)
                elif isinstance(request, _Until) or not request.needs_core:
                    until = request.moment if isinstance(request, _Until) else self._clock.now + request.seconds
                    self._clock.at(until, index)
                else:
                    self._clock.work(index, request.seconds)
            went_on = self._clock.next()
            if went_on is None:
                break
            self._ready.append(went_on)
        if left:
            stuck = sorted({self._processes[index].stage for index in left})
            raise ValueError(f"stages wait for each other for ever (given: stages {stuck} of {len(self._stages)})")
        return self._outcome()

    def _outcome(self) -> Outcome:
        groups = [[p for p in self._processes if p.stage == s] for s in range(len(self._stages))]
        return Outcome(
            tuple(tuple(moment for _, moment in sorted(found.items())) for found in self._ends),
            tuple(sum(p.busy_s for p in group) / len(group) for group in groups),
            tuple(sum(p.working_s for p in group) / len(group) for group in groups),
            tuple({n.value: sum(p.waits_s[n.value] for p in g) / len(g) for n in Port} for g in groups),
        )

    def _body(self, process: _Process) -> _Body:
        """What a replica does from its first action to its last."""
        stage, model = process.stage, self._stages[process.stage]
        receivers = [dst for src, dst, port in self._wires if src == stage and port is Port.TELL]
        senders = [src for src, dst, port in self._wires if dst == stage and port is Port.TELL]
        ended: set[int] = set()
        for action in model.actions:
            if action.op is not Op.STEP and action.microbatch % model.replicas != process.replica:
                continue
            part = action.microbatch
            for item in walk(action, model.role):
                if isinstance(item, Part):
                    yield from self._work(process, model.parts.get(item, 0.0), needs_core=not model.sleeps)
                elif item is Port.TAKE:
                    yield from self._take(process, self._queue(stage - 1, stage, part, Port.PASS), item)
                elif item is Port.HEAR:
                    yield from self._take(process, self._queue(senders[0], stage, part, Port.TELL), item)
                elif item is Port.PASS:
                    yield from self._send(process, self._queue(stage, stage + 1, part, Port.PASS), item)
                elif item is Port.MEET:
                    yield from self._meet(process, action.step)
                elif item is Port.TELL:
                    for dst in receivers:
                        yield from self._send(process, self._queue(stage, dst, part, Port.TELL), item)
                elif action.step not in ended:  # a second time where other blocks of the stage learn late
                    ended.add(action.step)
                    ends = self._ends[stage]
                    ends[action.step] = max(ends.get(action.step, 0.0), self._clock.now)

    def _queue(self, src: int, dst: int, microbatch: int, port: Port) -> _Queue:
        """Between the two replicas that have this micro-batch."""
        sender, receiver = microbatch % self._stages[src].replicas, microbatch % self._stages[dst].replicas
        key = (src, sender, dst, receiver, port)
        if key not in self._queues:
            wire = self._wires[src, dst, port]
            self._queues[key] = _Queue(wire, key if wire.lane is None else wire.lane)
        return self._queues[key]

    def _changed(self, queue: _Queue) -> float:
        """Those that wait for it look again; seconds of work that it takes to rouse them."""
        rouse_s = queue.wire.rouse_s if queue.blocked else 0.0
        self._ready.extend(queue.blocked)
        queue.blocked.clear()
        return rouse_s

    def _wake(self, process: _Process, wire: Wire, since: float, port: Port) -> _Body:
        """An end that has waited since then wakes up, and computes the longer for it."""
        waited_s = self._clock.now - since
        if waited_s > 0:
            yield _Until(self._clock.now + wire.wake_s(waited_s))
        process.waits_s[port.value] += self._clock.now - since
        yield from self._work(process, self._stages[process.stage].chill_s(waited_s))

    def _work(self, process: _Process, seconds: float, *, needs_core: bool = True) -> _Body:
        """Some work, of which there may be none."""
        process.busy_s += seconds
        if seconds > 0:
            since = self._clock.now
            yield _Work(seconds, needs_core)
            process.working_s += self._clock.now - since

    def _meet(self, process: _Process, step: int) -> _Body:
        """Replicas wait for the last of them before a step, and exchange gradients."""
        model, here, since = self._stages[process.stage], (process.stage, step), self._clock.now
        if model.replicas == 1:
            return
        self._here[here] = self._here.get(here, 0) + 1
        while self._here[here] < model.replicas:
            yield self._synced[process.stage]
        self._changed(self._synced[process.stage])
        if model.sync_late_s > 0:
            yield _Until(self._clock.now + model.sync_late_s)
        process.waits_s[Port.MEET.value] += self._clock.now - since
        yield from self._work(process, model.sync_s, needs_core=not model.sleeps)

    def _take(self, process: _Process, queue: _Queue, port: Port) -> _Body:
        """A message: waits for it, and copies it out."""
        since, wire = self._clock.now, queue.wire
        while not queue.arrivals:
            yield queue
        moment = queue.arrivals.popleft()
        if moment > self._clock.now:
            yield _Until(moment)
        yield from self._wake(process, wire, since, port)
        yield from self._work(process, wire.recv_s)
        queue.places -= 1
        yield from self._work(process, self._changed(queue))

    def _send(self, process: _Process, queue: _Queue, port: Port) -> _Body:
        """A message: waits for a place in the queue, and copies it in; its way takes none of the sender's time."""
        since, wire = self._clock.now, queue.wire
        while queue.places >= wire.depth:
            yield queue
        yield from self._wake(process, wire, since, port)
        queue.places += 1
        yield from self._work(process, wire.send_s)
        free = max(self._clock.now, self._lanes.get(queue.lane, 0.0))
        self._lanes[queue.lane] = free + wire.num_bytes / wire.rate
        queue.arrivals.append(self._lanes[queue.lane] + wire.latency_s)
        yield from self._work(process, self._changed(queue))
