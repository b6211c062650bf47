"""The process of one stage: builds the stage, drives its program over a transport, reports to the coordinator."""

import os
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import torch

from pipeline.data.activation_cache import allocator
from pipeline.engine.build import program_of
from pipeline.engine.kept import final_state
from pipeline.engine.message import Kind
from pipeline.engine.program import Program
from pipeline.engine.requests import EpochReport, NextPlan, Progress, Receive, Request, Send, Snapshot
from pipeline.engine.start import Start
from pipeline.numerics.compute import set_compute
from pipeline.numerics.digest import digest
from pipeline.records.files import reason
from pipeline.records.reports import SnapshotReport, StageEpoch, StageProgress, StageResult, StageRow, TimeRow
from pipeline.records.snapshots import block_file, snapshot_folder
from pipeline.records.time_budget import Activity, TimeBudget, module_bytes, peak_device_bytes, peak_rss_bytes
from pipeline.records.weights import measured_folder, save_block
from pipeline.schedules.cuts import Cut, Cuts
from workers.chaos import delays_of_stage
from workers.control import ControlLink
from workers.courier import Courier
from workers.final_weights import LastSave
from workers.host.allocator import keep_freed_memory
from workers.job import Job
from workers.messages import failure
from workers.snapshot_writer import SnapshotWriter
from workers.stage_build import load_data, open_ends, stage_of
from workers.trace_file import open_budget, save_part
from workers.transport import Transport

__all__ = ["StageRun", "build_program", "prepare_process", "run_stage"]

PROGRESS_EVERY_S = 0.25
_NO_STEP = (Kind.EVAL, Kind.EVAL_SETTLE, Kind.PROBE)
"""Kinds of messages that are sent for no optimizer step."""
_LAST_PART_S = 0.5  # for the trace of a stage that has failed elsewhere: the coordinator waits 1 s for its report


def build_program(job: Job, budget: TimeBudget) -> Program:
    """Builds this stage's part of the run; the data set where block 0 is."""
    resolved, config = job.resolved, job.resolved.config
    stage = stage_of(job)
    start = job.start.of(job.blocks) if job.start is not None else Start()
    start.restore(stage)
    train = test = final = None
    if 0 in job.blocks:
        train, test, final = load_data(job, stage.device)
    where, marks = config.schedule.cache, config.snapshot
    return program_of(resolved, job.partition, job.replicas, job.replica)(
        stage, job.stage_index, job.num_stages, resolved.batching, train, test, budget, config.seed,
        allocator("auto" if where == "off" else where, config.schedule.cache_limit_bytes, job.out),
        Cuts(resolved.batching.num_steps, marks.every_steps, marks.every_epochs), start, final,
    )  # fmt: skip


class StageRun:
    """Answers the requests of one stage's program.

    Args:
        job: the stage's share.
        transport: its ends of all edges.
        next_plan: asks the coordinator for the plan of an epoch.
        report: tells the coordinator; called with a topic and a body.
        in_background: snapshots are written while the stage goes on.
        courier: brings files to rank 0's host, from another one.
    """

    def __init__(
        self,
        job: Job,
        program: Program,
        transport: Transport,
        next_plan: Callable[[int], Any],
        report: Callable[[str, Any], None],
        *,
        in_background: bool = True,
        courier: Courier | None = None,
    ) -> None:
        self.job = job
        self._courier = courier
        self.program = program
        self.transport = transport
        self._next_plan = next_plan
        self._report = report
        self._timeout = job.endpoint.timeout_s
        self._budget = program.budget
        self._time: TimeRow | None = None
        self._bytes_sent = [0] * len(Kind)  # by kind of message
        self._reported = 0.0
        config = job.resolved.config
        self._late = delays_of_stage(config.chaos, config.seed, job.stage_index)
        self._late_steps = 0
        self._writer = SnapshotWriter(
            program.stage, job.stage_index, job.out, program.data_arrays, self._timeout, in_background=in_background
        )

    def answer(self, request: Request) -> Any:
        """Does what ``request`` asks; may block, never longer than ``run.timeout_s``."""
        if isinstance(request, Receive):
            self._budget.enter(Activity.TRANSFER)
            message, waited = self.transport.recv(request.src, self._timeout)
            self._budget.end_transfer(waited, Activity.WAIT_RECV, request.src)
            return message
        if isinstance(request, Send):
            self._budget.enter(Activity.TRANSFER)
            waited = self.transport.send(request.message, request.dst, self._timeout)
            self._budget.end_transfer(waited, Activity.WAIT_SEND, request.dst)
            self._bytes_sent[request.message.kind] += request.message.num_bytes
            return None
        if isinstance(request, NextPlan):
            self._budget.enter(Activity.WAIT_RECV)
            plan = self._next_plan(request.epoch)
            self._budget.enter(Activity.OTHER)
            if plan is None:  # the run is over; writing the weights is not part of it
                self._time = self._budget.read()
            return plan
        if isinstance(request, Progress):
            self._progress(request)
            return None
        if isinstance(request, Snapshot):
            self._snapshot(request.cut)
            return None
        self._epoch(request)
        return None

    def _snapshot(self, cut: Cut) -> None:
        """Copies the blocks; the coordinator hears of it when the copies are on the disk."""
        if self.job.replica > 0:
            return
        working = self._budget.enter(Activity.OTHER)
        done = self._steps_at(cut)
        if (self.program.guard.look(done - 1) if cut.step else self.program.guard.found) is not None:
            self._budget.enter(working)  # what is not finite is never a place to go on from
            return
        self._writer.take(cut, done, self._saved)
        self._budget.enter(working)

    def _saved(self, report: SnapshotReport) -> None:
        """A snapshot is on the disk; on the writing thread."""
        if self._courier is not None and report["error"] is None:
            folder = snapshot_folder(self.job.out, report["steps"])
            report["error"] = self._courier.bring_snapshot(folder, report["files"])
        self._report("saved", report)

    def _steps_at(self, cut: Cut) -> int:
        """Optimizer steps since the run's start."""
        return cut.epoch * self.program.batching.num_steps + cut.step

    def _progress(self, request: Progress) -> None:
        """Now and then: reading the loss waits for the device."""
        if self._late is not None and request.step >= self._late_steps:  # and no test batch
            self._late_steps = request.step + 1
            time.sleep(self._late.next())
        now = time.monotonic()
        if now - self._reported < PROGRESS_EVERY_S:
            return
        self._reported = now
        working = self._budget.enter(Activity.OTHER)
        body: StageProgress = {
            "stage": self.job.stage_index, "epoch": request.epoch, "step": request.step,
            "samples": self.program.stage.samples, "loss": self.program.stage.recent_loss(),
            "fill": self.job.waiting(self.transport.fill),
            "checked": self.program.guard.checked(request.step),
        }  # fmt: skip
        if (found := self.program.guard.look_at_losses()) is not None:
            body["nonfinite"] = found
        self.job.sign(body)
        self._report("progress", body)
        self._budget.enter(working)

    def _epoch(self, request: EpochReport) -> None:
        """A finished epoch, with the time budget so far."""
        if "scores_test" not in request.row and (trouble := self.keep(request.row["epoch"] + 1)) is not None:
            request.row["not_kept"] = trouble
        row: StageEpoch = {**request.row, "samples": self.program.stage.samples, "time": self._budget.read()}
        row["blocks"] = row["blocks"] if self.job.replica == 0 else []  # the first one knows the scores of all
        self.job.sign(row)
        self._report("epoch", row)

    def keep(self, num_epochs: int) -> str | None:
        """Saves the stage's blocks where they are to be measured after so many epochs: each stage does so after the
        epoch's last step, so the files of all stages are one state of the network. Returns why they cannot be."""
        every = self.job.resolved.config.measure.every
        if self.program.guard.found is None and self.job.replica == 0 and every > 0 and num_epochs % every == 0:
            try:
                folder = measured_folder(self.job.out, num_epochs)
                for k in self.program.stage.blocks:
                    save_block(folder, k, self.program.stage.state(k))
                if self._courier is not None:
                    self._courier.post(*(folder / block_file(k) for k in self.program.stage.blocks))
            except OSError as error:
                return reason(error)
        return None

    def _bytes_per_step(self) -> float:
        """Mean bytes sent for an optimizer step; those of test batches and of probes are left out."""
        steps = self.program.steps - (0 if self.job.start is None else self._steps_at(self.job.start.manifest.cut))
        return (sum(self._bytes_sent) - sum(self._bytes_sent[kind] for kind in _NO_STEP)) / max(steps, 1)

    def finish(self) -> StageResult:
        """Saves the stage's blocks and returns its row of ``result.json``, with the digest of each block.

        Raises:
            DiskError: no disk takes the weights.
        """
        stage = self.program.stage
        save_part(self.job, self._budget, self._courier)
        saving = LastSave(self.job, self.program, self._writer) if self.job.replica == 0 else None
        digests = {k: digest(final_state(stage, k)) for k in stage.blocks}
        saved = saving.end() if saving is not None else None
        place = str(saved.folder) if saved is not None else ""
        assert self._time is not None, "a stage is finished after the last plan"
        row: StageRow = {
            "stage": self.job.stage_index, "replica": self.job.replica, "pid": os.getpid(),
            "blocks": [stage.blocks.start, stage.blocks.stop - 1], **self._time, "samples": stage.samples,
            "peak_rss_bytes": peak_rss_bytes(), "peak_device_bytes": peak_device_bytes(stage.device),
            "parameter_bytes": module_bytes(stage.rules.values()), "optimizer_bytes": stage.optimizer_bytes(),
            "held_bytes": stage.in_flight.max_bytes, "queue_bytes": self.transport.queue_bytes(),
            "bytes_sent": sum(self._bytes_sent), "bytes_per_step": self._bytes_per_step(),
            "staleness": stage.staleness.run(),
        }  # fmt: skip
        result: StageResult = {
            "row": row, "digests": {}, "steps": self.program.steps, "folder": place, "files": [], "data_crc32": None,
        }  # fmt: skip
        if self.job.replicas is not None:
            result["process"] = self.job.process
        if saved is None:
            return {**result, "twins": list(digests.items())}
        return saved.noted({**result, "digests": digests})


def run_stage(job: Job, link: ControlLink, courier: Courier | None = None) -> None:
    """Runs one stage in this process from start to end; on another host than rank 0's with a ``courier``.

    Failures are reported over ``link`` with their traceback, and raised again.
    """
    transport: Transport | None = None
    budget = open_budget(job)
    link.watch(budget.pulse)
    try:
        keep_freed_memory()
        prepare_process(job)
        program = build_program(job, budget)
        if courier is not None:
            courier.drop_start()  # it has been read, and any moment may be the last
        transport = open_ends(job)
        run = StageRun(job, program, transport, link.next_plan, link.send, courier=courier)
        link.send("ready", job.process)
        drive(run)
        result = run.finish()
        budget.enter(Activity.WAIT_SEND)  # until the next stage has taken what it was sent: no time of this one's work
        transport.close(job.endpoint.timeout_s)
        if courier is not None:  # behind the edges: over a slow link it takes its time
            courier.bring_result(result, lambda: budget.enter(Activity.OTHER))
        link.send("result", result)
    except BaseException as error:
        if transport is not None:
            transport.abort()
        if isinstance(error, Exception):  # not an interrupt: its cause is known
            with suppress(OSError):
                budget.read()
                save_part(job, budget, courier, _LAST_PART_S)  # before the report, after which this may be stopped
            link.send("failed", failure(job.process, error))
        raise


def prepare_process(job: Job) -> None:
    """Threads, device and number formats of this process."""
    set_compute(job.threads, job.resolved.config.run.matmul_precision, torch.device(job.endpoint.device))


def drive(run: StageRun) -> None:
    """Walks through the program, answering every request."""
    steps = run.program.run()
    reply = run.answer(next(steps))
    run.program.budget.restart()  # the first plan comes when every stage is ready: the run's clock starts
    while True:
        try:
            request = steps.send(reply)
        except StopIteration:
            return
        reply = run.answer(request)
