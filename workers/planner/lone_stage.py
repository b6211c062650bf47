"""One stage of a planned run alone: its own program and blocks, over a transport that hands out canned messages.

So everything that a stage does for a step is in its time, the loop and the reports included, and nothing of what other
stages do. What messages cost on their way is measured by :mod:`workers.planner.wire_costs`.
"""

import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import ceil

import torch
from torch import Tensor

from pipeline.data.synthetic import random_labels
from pipeline.engine.message import Kind, Message
from pipeline.engine.stage import Stage
from pipeline.engine.wires import wires_of
from pipeline.numerics.memory_format import channels_last, to_wire
from pipeline.planning.roles import chills_of, parts_of, role_of
from pipeline.planning.stage_model import Part, Port
from pipeline.planning.taken import Taken, Watched
from pipeline.records.time_budget import module_bytes
from pipeline.schedules.actions import Action, Op
from pipeline.schedules.position import Position
from workers.dry_run.stage import DryRunSpec, DryRunStage
from workers.job import Job
from workers.planner.lone_replica import pack_gradients
from workers.transport import Transport
from workers.worker import drive

__all__ = ["StageProfile", "measure_stage"]

_LEAST_STEPS = 6
_MOST_STEPS = 60
_MEASURE_S = 0.25
_WARM_STEPS = 2
_WAITS_S = (0.0, 1e-4, 1e-3, 5e-3)
_LEAST_ROUNDS, _MOST_ROUNDS = 5, 15
_LONG_STEP_S = 0.05
"""Steps that take longer do not feel what a wait costs: some tenths of a millisecond."""


@dataclass(frozen=True)
class StageProfile:
    """What a stage takes and holds."""

    parts: Mapping[Part, float]
    """Seconds of each part of its actions."""
    parameter_bytes: int
    optimizer_bytes: int
    held_bytes: int
    told: tuple[tuple[tuple[int, ...], torch.dtype], ...]
    """Shapes and dtypes of the feedback that it sends for a micro-batch."""
    taken: Taken | None = None
    """When it was measured, and how undisturbed; None: nobody has told."""
    chills: tuple[tuple[float, float], ...] = ()
    """Seconds that it has waited for a message, rising, and by how much longer it then computes."""
    passed_bytes: int = 0
    """Of a full micro-batch's activation that it sends, with its labels; 0 of the last stage."""

    @property
    def told_bytes(self) -> int:
        """Of that feedback."""
        return sum(torch.Size(shape).numel() * dtype.itemsize for shape, dtype in self.told)


class _Canned(Transport):
    """Has every message at hand, and notes when it is asked for one or given one."""

    def __init__(self, job: Job, told: Sequence[tuple[tuple[int, ...], torch.dtype]]) -> None:
        self._job = job
        self._told = told
        self.marks: list[tuple[Port, float, float]] = []
        self.waits_s: Sequence[float] = (0.0,)
        """That each message of a step is waited for, one length in each step, in turns."""
        self.sent: tuple[Tensor, ...] = ()
        """The first feedback that was sent."""
        self.passed_bytes = 0
        """Of the longest activation that was sent, labels included."""
        self._told_at: Position | None = None
        self._taken: Iterator[tuple[Message, int]] = iter(())
        self._heard: Iterator[tuple[Message, int]] = iter(())

    def prepare(self, actions: Sequence[Action], first: tuple[Tensor, Tensor] | None) -> None:
        """Makes the messages that the stage will ask for; ``first`` is an activation with its labels."""
        job, batching = self._job, self._job.resolved.batching
        self.marks.clear()
        self._told_at = None

        def messages(op: Op, kind: Kind, tensors: tuple[Tensor, ...]) -> Iterator[tuple[Message, int]]:
            """Of one kind, each with the steps that are done when it is asked for."""
            full, wires, done = job.resolved.microbatch_size, wires_of(job.resolved), 0
            for action in actions:
                done += action.op is Op.STEP
                if action.op is op:
                    rows = len(range(action.microbatch, batching.batch_size, batching.microbatches))
                    part = tuple(t[:rows] if t.dim() > 0 and len(t) == full else t for t in tensors)
                    if op is Op.FORWARD and wires is not None and job.blocks.start in wires.cuts:
                        part = wires.encode(*part)
                    if op is Op.FORWARD and job.resolved.config.run.channels_last:
                        part = to_wire(part)
                    position = Position(0, action.step, action.microbatch)
                    yield Message(kind, position, rows / batching.batch_size, part), done

        device = job.endpoint.device
        fed = tuple(torch.full(shape, 1e-3, dtype=dtype, device=device) for shape, dtype in self._told)
        self._taken = messages(Op.FORWARD, Kind.TRAIN, first or ())
        self._heard = messages(Op.LEARN, Kind.FEEDBACK, fed)

    def send(self, message: Message, dst: int, timeout: float) -> float:
        """See :class:`Transport`; the message goes nowhere."""
        now = time.perf_counter()
        up = message.kind is Kind.TRAIN
        if up:
            self.passed_bytes = max(self.passed_bytes, message.num_bytes)
        if not up and not self.sent:
            self.sent = message.tensors
        if not up and message.position == self._told_at:  # one mark for what is told to all of them
            now = self.marks.pop()[1]
        if not up:
            self._told_at = message.position
        self.marks.append((Port.PASS if up else Port.TELL, now, time.perf_counter()))
        return 0.0

    def recv(self, src: int, timeout: float) -> tuple[Message, float]:
        """See :class:`Transport`."""
        now = time.perf_counter()
        below = src < self._job.stage_index
        message, done = next(self._taken if below else self._heard)
        if (wait_s := self.waits_s[done % len(self.waits_s)]) > 0:
            time.sleep(wait_s)
        self.marks.append((Port.TAKE if below else Port.HEAR, now, time.perf_counter()))
        return message, 0.0

    def fill(self, src: int) -> int:
        """See :class:`Transport`."""
        return 1

    def queue_bytes(self) -> int:
        """See :class:`Transport`."""
        return 0

    def close(self, timeout: float) -> None:
        """See :class:`Transport`."""

    def abort(self) -> None:
        """See :class:`Transport`."""


def measure_stage(
    job: Job, told: Sequence[tuple[tuple[int, ...], torch.dtype]], *, waits: bool = True
) -> StageProfile:
    """Measures the stage of ``job``, in this process and with its threads.

    Args:
        job: the stage's share of the planned run.
        told: feedback that the stage above sends; empty where there is none.
        waits: also how much longer it computes when it has waited.
    """
    job = _on_time(job)
    with job.compute():
        canned = _Canned(job, told)
        stage = DryRunStage(job, canned)
        _watch_steps(stage.stage, canned, _replicas_of(job))
        _run(stage, canned, _WARM_STEPS)
        about = _last_step_s(canned.marks)
        steps = max(_LEAST_STEPS, min(_MOST_STEPS, ceil(_MEASURE_S / max(about, 1e-6))))
        steps += job.resolved.batching.in_flight_at(job.stage_index, job.num_stages)
        watched = Watched()
        with watched.work():
            actions, began = _run(stage, canned, steps)
        at_once = job.resolved.learns_at_once
        role = role_of(job.resolved.topology, job.partition, job.stage_index, learns_at_once=at_once)
        parts = parts_of(actions, role, canned.marks, began, len(canned.marks) // 4)
        blocks, taken = stage.stage, _taken(job, canned.marks, watched)
        tells = waits and taken.share is not None and about < _LONG_STEP_S and (role.has_below or role.hears)
        chills = _chills(stage, canned, about) if tells else ()
        return StageProfile(
            parts, module_bytes(blocks.rules.values()), blocks.optimizer_bytes(), blocks.in_flight.max_bytes,
            tuple((tuple(t.shape), t.dtype) for t in canned.sent), taken, chills,
            canned.passed_bytes,
        )  # fmt: skip


def _replicas_of(job: Job) -> int:
    """Of the job's stage, of which it is one."""
    counts = job.resolved.config.run.replicas
    return counts[job.stage_index] if isinstance(counts, list) else 1


def _watch_steps(stage: Stage, canned: _Canned, replicas: int) -> None:
    """Has the start of each optimizer step noted: what lies before it is shared between replicas, and it is not."""
    unpack = pack_gradients(stage, replicas) if replicas > 1 else None
    real = stage.step

    def noted(step: int = 0) -> None:
        """Notes it, and steps."""
        if stage.device.type == "cuda":
            torch.cuda.synchronize(stage.device)
        now = time.perf_counter()
        canned.marks.append((Port.MEET, now, now))
        if unpack is not None:
            unpack()
        real(step)

    stage.step = noted  # type: ignore[method-assign]


def _last_step_s(marks: Sequence[tuple[Port, float, float]]) -> float:
    """Seconds of the last step: the first ones make what is made once."""
    ends = [left for port, _, left in marks if port is Port.DONE]
    return max(ends[-1] - ends[-2], 1e-6)


def _chills(stage: DryRunStage, canned: _Canned, about: float) -> tuple[tuple[float, float], ...]:
    """How much longer the stage computes when it has waited: its steps wait in turns, so that a machine that changes
    meanwhile does so for all lengths."""
    rounds = max(_LEAST_ROUNDS, min(_MOST_ROUNDS, ceil(_MEASURE_S / len(_WAITS_S) / about)))
    canned.waits_s = _WAITS_S
    try:
        _, began = _run(stage, canned, len(_WAITS_S) * rounds)
    finally:
        canned.waits_s = (0.0,)
    return tuple(chills_of(canned.marks, began, len(_WAITS_S), len(_WAITS_S)))


def _taken(job: Job, marks: Sequence[tuple[Port, float, float]], watched: Watched) -> Taken:
    """How undisturbed a stage was measured: of one that sleeps or computes on a device, the thread tells nothing."""
    tells = job.endpoint.device == "cpu" and not job.resolved.config.chaos.emulates
    steps = [later - earlier for earlier, later in pairwise(left for port, _, left in marks if port is Port.DONE)]
    counted = steps[len(steps) // 4 :]
    spread = statistics.median(counted) / min(counted) if counted and min(counted) > 0 else None
    return Taken(time.time(), watched.share if tells else None, spread)


def _on_time(job: Job) -> Job:
    """The job of a stage that is never late: the simulation adds that to every step of every stage."""
    config = job.resolved.config
    config = replace(config, chaos=replace(config.chaos, stage_delay_s=0.0))
    return replace(job, resolved=replace(job.resolved, config=config))


def _run(stage: DryRunStage, canned: _Canned, num_steps: int) -> tuple[list[Action], float]:
    """Walks through so many steps; returns the actions, and the moment at which the first began."""
    job, on_cuda = stage.job, stage.stage.device.type == "cuda"
    resolved, batching = job.resolved, job.resolved.batching
    actions = list(
        batching.order(
            [batching.microbatches] * num_steps, stage_index=job.stage_index, num_stages=job.num_stages,
            in_flight=min(batching.in_flight_at(job.stage_index, job.num_stages), num_steps),
            feedback=resolved.topology.value != "local",
        )
    )  # fmt: skip
    canned.prepare(actions, _activation(job) if job.stage_index > 0 else None)
    run = stage.prepare(DryRunSpec(num_steps, waits_for_device=on_cuda))
    begun = time.perf_counter()
    drive(run)
    marks = sorted([*canned.marks, *((Port.DONE, moment, moment) for _, moment in run.marks)], key=lambda m: m[1])
    canned.marks = marks
    return actions, begun


def _activation(job: Job) -> tuple[Tensor, Tensor]:
    """A micro-batch of random numbers at the stage's input, and labels."""
    resolved, rows = job.resolved, job.resolved.microbatch_size
    below = resolved.shapes[job.blocks.start - 1]
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(rows, *below.out_shape, generator=generator)
    x = channels_last(x) if resolved.config.run.channels_last else x
    dtype = torch.bfloat16 if resolved.config.run.autocast != "none" else below.dtype
    y = random_labels(resolved.data.task, rows, generator)
    return x.to(job.endpoint.device, dtype), y.to(job.endpoint.device)
