"""One stage of a dry run: the run's own stage, program and transport, and synthetic data."""

import math
import os
import signal
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from multiprocessing.connection import Connection
from typing import Any

import torch
from torch import Tensor

from pipeline.data.activation_cache import allocator
from pipeline.data.batches import Batches
from pipeline.data.dataset import Split
from pipeline.data.synthetic import random_inputs, random_labels
from pipeline.engine.build import program_of
from pipeline.engine.feeds import Feed
from pipeline.engine.requests import Progress, Request
from pipeline.pickles import trusted
from pipeline.planning.taken import Watched
from pipeline.records.time_budget import TimeBudget
from pipeline.resolve import load_dataset
from pipeline.schedules.cuts import Cuts
from pipeline.schedules.plan import Plan
from workers import messages
from workers.host.allocator import keep_freed_memory
from workers.host.parent import end_with_starter
from workers.job import Job
from workers.stage_build import open_ends, stage_of
from workers.transport import Transport
from workers.worker import StageRun, drive, prepare_process

__all__ = ["DryRunSpec", "StageTimings", "DryRunStage", "main"]

_DATA_BYTES = 2**25
"""Most bytes of synthetic data."""


@dataclass(frozen=True)
class DryRunSpec:
    """Number of batches to run, and how they are timed."""

    num_steps: int
    """Optimizer steps, at least 1."""
    num_evals: int = 0
    """Test batches after the training steps."""
    steady: int = 0
    """First step that counts: those before it fill the pipeline."""
    waits_for_device: bool = False
    """Whether every activity lasts until the device has done what it was given."""


@dataclass(frozen=True)
class StageTimings:
    """Timings of one stage in seconds, by its host's ``time.perf_counter``."""

    begun: float
    """Start of the first batch."""
    steps: list[float]
    """End of each step; under late feedback, of what this stage does at once."""
    evals: list[float]
    """End of each test batch; of the last one with the reports that end an epoch."""
    work_s: float
    """Duration of everything but waits and evaluation."""
    share: float | None = None
    """Of that time, how much the stage's thread had a processor; None where it is not known, or a device computes."""

    @property
    def took_s(self) -> float:
        """From the start of the first batch to the end of the last step."""
        return self.steps[-1] - self.begun


class _TimedRun(StageRun):
    """A run of one stage that notes the end of each batch."""

    spec: DryRunSpec
    marks: list[tuple[int, float]]

    def answer(self, request: Request) -> Any:
        """See :class:`StageRun`."""
        device = self.program.stage.device
        if device.type == "cuda" and (self.spec.waits_for_device or isinstance(request, Progress)):
            torch.cuda.synchronize(device)  # or the mark would be the start of the work, not its end
        if isinstance(request, Progress):
            self.marks.append((request.step, time.perf_counter()))
        return super().answer(request)

    def keep(self, num_epochs: int) -> None:
        """Keep nothing: see :class:`StageRun`."""


class DryRunStage:
    """One stage, which runs one :class:`DryRunSpec` after another.

    Args:
        job: the stage's share of the run.
        transport: in place of the run's own.
    """

    def __init__(self, job: Job, transport: Transport | None = None) -> None:
        self.job = job
        self.stage = stage_of(job)
        self.transport = open_ends(job) if transport is None else transport
        self._train: Feed | None = None
        self._test: Feed | None = None
        if 0 in job.blocks:
            self._train, self._test = _synthetic_data(job)

    def prepare(self, spec: DryRunSpec) -> _TimedRun:
        """Make the run that carries out ``spec``, to be driven to its end."""
        resolved = self.job.resolved
        batching = replace(
            resolved.batching, num_train=spec.num_steps * resolved.batching.batch_size,
            num_test=max(1, spec.num_evals) * resolved.batching.eval_batch_size, num_validation=0,
        )  # fmt: skip
        program = program_of(resolved, self.job.partition, self.job.replicas, self.job.replica, publishes=False)(
            self.stage, self.job.stage_index, self.job.num_stages, batching, self._train, self._test, TimeBudget(),
            resolved.config.seed, allocator("memory", 0, self.job.out), Cuts(spec.num_steps),
        )  # fmt: skip
        plan = Plan(0, resolved.modes, (0,) * resolved.num_blocks, evaluate=spec.num_evals > 0)
        run = _TimedRun(self.job, program, self.transport, (plan, None).__getitem__, lambda topic, body: None)
        run.spec, run.marks = spec, []
        return run

    def measure(self, spec: DryRunSpec) -> StageTimings:
        """Run ``spec`` together with the other stages, which do so in processes of their own."""
        run = self.prepare(spec)
        begun, watched = time.perf_counter(), Watched()
        with watched.work():
            drive(run)
        found = self.timings(run, spec, begun)
        is_known = self.stage.device.type == "cpu" and not spec.num_evals and found.work_s > 0
        return replace(found, share=min(1.0, watched.cpu_s / found.work_s) if is_known else None)

    def timings(self, run: _TimedRun, spec: DryRunSpec, begun: float) -> StageTimings:
        """Timings of a finished ``run``; waits for the device, whose work belongs to the last step."""
        if self.stage.device.type == "cuda":
            torch.cuda.synchronize(self.stage.device)
            last, _ = run.marks[-1]
            run.marks[-1] = last, time.perf_counter()
        budget = run.program.budget.read()
        learned, scored = run.marks, run.marks[:0]
        if spec.num_evals:
            learned, scored = run.marks[: -spec.num_evals], run.marks[-spec.num_evals :]
        first: dict[int, float] = {}
        for step, moment in learned:
            first.setdefault(step, moment)
        evals = [moment for _, moment in scored]
        if evals:
            evals[-1] = time.perf_counter()
        work_s = budget["forward_s"] + budget["learn_s"] + budget["transfer_s"] + budget["other_s"]
        return StageTimings(begun, list(first.values()), evals, work_s)


class _SyntheticFeed:
    """A feed that begins again when it is at its end."""

    def __init__(self, batches: Batches) -> None:
        self._batches = batches
        self.num_samples = batches.num_samples
        self.num_batches = batches.num_batches

    def batch(self, epoch: int, index: int) -> tuple[Tensor, Tensor]:
        """See :class:`pipeline.engine.feeds.Feed`."""
        return self._batches.batch(epoch, index % self.num_batches)


def _synthetic_data(job: Job) -> tuple[Feed, Feed]:
    """Train and test feeds of random samples, shaped, normalised and augmented like those of the data set."""
    config, batching, spec = job.resolved.config, job.resolved.batching, job.resolved.data
    dataset = load_dataset(config, job.data_root)
    pixels = len(spec.input_shape) == 3 and dataset.normalisation is not None
    most = _DATA_BYTES // (math.prod(spec.input_shape) * (1 if pixels else 4))
    generator = torch.Generator().manual_seed(0)

    def feed(batch_size: int, num_samples: int, train: bool) -> Feed:
        """Of a split of so many samples, as many of which are made as have room."""
        count = max(1, min(num_samples, most) // batch_size) * batch_size
        if pixels:
            x = torch.randint(256, (count, *spec.input_shape), generator=generator, dtype=torch.uint8)
        else:
            x = random_inputs(spec, count, generator)
        y = random_labels(spec.task, count, generator)
        device = job.endpoint.device
        return _SyntheticFeed(
            Batches(Split(x, y), dataset=dataset, batch_size=batch_size, seed=config.seed, device=device, train=train)
        )

    return feed(batching.batch_size, spec.num_train, True), feed(batching.eval_batch_size, spec.num_test, False)


def main(connection: Connection, stage_index: int) -> None:
    """Body of a stage's process in a dry run: runs each spec that comes over the connection, until None comes.

    Any error ends it: the run itself will meet it again, and can report it better.

    Args:
        connection: to the parent; brings the stage's job first.
        stage_index: index of this stage.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_starter()  # also while a block of the user's hangs
    stage: DryRunStage | None = None
    try:
        job: Job = trusted(connection.recv_bytes())
        keep_freed_memory()
        prepare_process(job)
        stage = DryRunStage(job)
        messages.send(connection, "ready", None)
        while (spec := messages.receive(connection)[1]) is not None:
            messages.send(connection, "timings", asdict(stage.measure(DryRunSpec(**spec))))
        stage.transport.close(job.endpoint.timeout_s)
    except BaseException as error:
        if stage is not None:
            stage.transport.abort()
        with suppress(OSError):
            messages.send(connection, "failed", f"stage {stage_index}: {type(error).__name__}: {error}")
        os._exit(1)
