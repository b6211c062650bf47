"""Run state: collects stage reports and publishes plans. The coordinator's logic, without its connections."""

import logging
import time
from collections.abc import Sequence
from typing import Any

from pipeline.errors import NonFiniteError
from pipeline.records.bad_scores import BadScores
from pipeline.records.early_end import EarlyEnd
from pipeline.records.first_bad import FirstBad
from pipeline.records.history import losses_of, replayed_rows, values_of
from pipeline.records.reports import (
    BlockScores, GateRow, SnapshotReport, StageEpoch, StageProgress, StageResult, process_of,
)  # fmt: skip
from pipeline.records.run_record import Recorder, gate_rows
from pipeline.records.selected import selection_table
from pipeline.records.snapshot_keeper import SnapshotKeeper
from pipeline.records.snapshots import Manifest
from pipeline.records.view import View
from pipeline.schedules.cuts import Cut
from pipeline.schedules.plan import Plan
from pipeline.schedules.schedule import EpochResult, Schedule

__all__ = ["RunState"]

logger = logging.getLogger(__name__)

_AHEAD = 64
"""Epochs whose plans are published before they are due, where they do not depend on results."""


class RunState:
    """Collects what stages report and asks the schedule for plans.

    Args:
        schedule: decides the plans.
        num_stages: processes that report, one for each stage at least.
        num_blocks: of the network.
        recorder: takes every row.
        view: shows progress.
        keeper: of the run's snapshots; None of a run that leaves none.
        early_end: may end the run before its schedule does; None of a run that only the schedule ends.
        bad_scores: looks at the losses of evaluations; None where nobody does.
    """

    def __init__(
        self, schedule: Schedule, num_stages: int, num_blocks: int, recorder: Recorder, view: View,
        keeper: SnapshotKeeper | None = None, early_end: EarlyEnd | None = None, bad_scores: BadScores | None = None,
    ) -> None:  # fmt: skip
        self.history: list[EpochResult] = []
        self.last_scores: dict[int, BlockScores] = {}
        """The newest row of every block that was evaluated."""
        self.skipped: dict[int, int] = {}
        """Batches that each block has left out, of those that did."""
        self.not_kept: set[int] = set()
        """Numbers of epochs after which weights were to be kept for measurements, and could not be."""
        self.begun_after = 0
        """Epochs that were done when the run was taken up."""
        self.results: dict[int, StageResult] = {}
        """Each stage's last report."""
        self.num_stages = num_stages
        self._schedule = schedule
        self.num_blocks = num_blocks
        self._recorder = recorder
        self._view = view
        self._plans: list[Plan | None] = []
        self._rows: dict[int, list[StageEpoch]] = {}
        self._scores: list[Sequence[BlockScores]] = []
        """Of the blocks that were active, for each finished epoch."""
        self._keeper = keeper
        self._early: list[SnapshotReport] = []
        """Of parts of snapshots, that have come before all processes have reported the epochs in front of the cut."""
        self._early_end, self._bad_scores = early_end, bad_scores
        self._before_s = 0.0
        """Seconds of training before the cut from which the run goes on."""
        self.last_good: str | None = None
        """The newest snapshot that is complete, for the message of a run that leaves the finite numbers."""
        self._first_bad = FirstBad(num_stages)
        self._fills: dict[int, list[int]] = {}
        """Messages that waited in front of each process, as its reports inside the epoch have told."""
        self._started_s: float | None = None
        self._ended_s = 0.0

    def new_plans(self) -> list[tuple[int, Plan | None]]:
        """The plans that have become known since the last call, with their epochs; None ends the run."""
        found: list[tuple[int, Plan | None]] = []
        while not self._plans or self._plans[-1] is not None:
            epoch = len(self._plans)
            if epoch >= len(self.history) + self._epochs_ahead():
                break
            known = self._plan(epoch, self._plans[-1] if self._plans else None)
            if not known:
                break
            (plan,) = known
            self._plans.append(plan)
            if plan is not None:
                self._view.planned(plan)
            found.append((epoch, plan))
        return found

    def _plan(self, epoch: int, before: Plan | None) -> list[Plan | None]:
        """The plan of an epoch, None where the run is over; nothing as long as it depends on what is not known.

        Args:
            epoch: its number.
            before: the plan of the epoch before.
        """
        if before is not None and before.scores_test:  # which is the last one, also where somebody has asked for that
            return [None]
        scheduled = self._scheduled(epoch)
        if not scheduled:
            return []
        (planned,) = scheduled
        if self._early_end is None or planned is None or planned.scores_test:
            return [planned]
        plan = self._early_end.applied(planned, before)
        if plan is not None or planned.choice is None:
            return [plan]
        if len(self.history) < epoch:  # the choice depends on all of them
            return []
        return [self._schedule.last(epoch, self.history)]

    def _scheduled(self, epoch: int) -> list[Plan | None]:
        """What the schedule has for an epoch; nothing as long as it depends on what is not known."""
        needed = self._schedule.waits_for(epoch, self.history)
        return [self._schedule.plan(epoch, self.history[:needed])] if needed <= len(self.history) else []

    def _epochs_ahead(self) -> int:
        """Epochs to be planned beyond the finished ones."""
        if self._early_end is None:
            return _AHEAD
        done = len(self.history) - self.begun_after
        epoch_s = (self._ended_s - self._started_s) / done if done and self._started_s is not None else None
        return min(_AHEAD, self._early_end.epochs_ahead(epoch_s))

    def ready(self) -> None:
        """A stage is built and connected; the run's clock starts when the last one is."""
        self._started_s = time.perf_counter()
        self._view.started()

    def progress(self, body: StageProgress) -> None:
        """News inside an epoch."""
        if (fill := body.get("fill")) is not None:
            self._fills.setdefault(process_of(body), []).append(fill)
        self._view.progress(body)
        self._hear(body, whole=False)

    def epoch(self, body: StageEpoch) -> None:
        """A stage has finished an epoch."""
        fills = self._fills.pop(process_of(body), [])
        fill = {"fill": {"mean": sum(fills) / len(fills), "max": max(fills)}} if fills else {}
        self._recorder.write({"event": "test" if "scores_test" in body else "epoch", **body, **fill})
        rows = self._rows.setdefault(body["epoch"], [])
        rows.append(body)
        self._hear(body, whole=True)
        self._note_room(body)
        if len(rows) < self.num_stages:
            return
        plan = self._plans[body["epoch"]]
        assert plan is not None
        blocks = sorted((b for row in rows for b in row["blocks"]), key=lambda b: b["block"])
        if plan.scores_test:
            self.last_scores |= {block["block"]: block for block in blocks}
        else:
            self._finished(plan, blocks, cache_lost=any("cache_lost" in row for row in rows))
        if self._bad_scores is not None:
            goes_on = not plan.scores_test and self._trains_behind(body["epoch"])
            self._bad_scores.look(plan, blocks, body["checked"], self.last_good, goes_on=goes_on)
        self._ended_s = time.perf_counter()
        self._view.epoch(plan, blocks)
        early, self._early = self._early, []
        for report in early:
            self.saved(report)

    def _trains_behind(self, epoch: int) -> bool:
        """Whether another epoch of training follows, or may."""
        known = self._plans[epoch + 1 : epoch + 2] or self._scheduled(epoch + 1)
        return not known or (known[0] is not None and not known[0].scores_test)

    def _finished(self, plan: Plan, blocks: Sequence[BlockScores], *, cache_lost: bool = False) -> None:
        """An epoch is over on every stage."""
        for block in blocks:
            if "skipped" in block:
                self.skipped[block["block"]] = self.skipped.get(block["block"], 0) + block["skipped"]
            if block["test_accuracy"] is not None or block["test_loss"] is not None:  # numbers have no accuracy
                self.last_scores[block["block"]] = block
        self._scores.append(blocks)
        losses, values = losses_of(blocks, self.num_blocks), values_of(blocks, self.num_blocks)
        self.history.append(EpochResult(plan, losses, cache_lost, values))

    def _note_room(self, body: StageEpoch) -> None:
        """Something that the run can do without has found no room on the disk; said once for each kind."""
        if "not_kept" in body:
            if not self.not_kept:
                logger.warning("weights cannot be kept to be measured (%s): epoch %d, and others like it, will be "
                               "missing in the measurements", body["not_kept"], body["epoch"] + 1)  # fmt: skip
            self.not_kept.add(body["epoch"] + 1)
        if "cache_lost" in body and not any(result.cache_lost for result in self.history):
            logger.warning("outputs of frozen blocks cannot be kept any more (%s): epochs start at the data, which "
                           "takes longer and changes nothing", body["cache_lost"])  # fmt: skip

    def _hear(self, body: StageProgress | StageEpoch, *, whole: bool) -> None:
        """What a stage has found out about its numbers.

        Raises:
            NonFiniteError: the first that are not finite are known.
        """
        found = self._first_bad.hear(process_of(body), body["checked"], body.get("nonfinite"), whole=whole)
        if found is not None:
            raise NonFiniteError(found, self.last_good)

    def saved(self, body: SnapshotReport) -> None:
        """A stage has written its part of a snapshot.

        Replicas report epochs and the first of each stage writes: it may be ahead of another one's report. What a
        snapshot says of the epochs in front of its cut is only known when that has come.
        """
        if len(self.history) < body["epoch"]:
            self._early.append(body)
            return
        now_s = self._before_s + time.perf_counter() - (self._started_s or 0.0)
        if self._keeper is not None and self._keeper.saved(body, self.scores, now_s, self.cache_lost):
            self.last_good = f"snapshots/step-{body['steps']}"
            self._recorder.write({"event": "snapshot", **Cut(body["epoch"], body["step"])._asdict()})

    def go_on_from(self, manifest: Manifest | None) -> None:
        """Forgets what has happened since a snapshot, or everything: stages are to be started anew from there.

        The plans of its finished epochs are those that the schedule makes of their losses, as it did before.
        """
        self.skipped, self._first_bad = {}, FirstBad(self.num_stages)
        self.history, self.last_scores, self.results, self._rows, self._plans, self._scores = [], {}, {}, {}, [], []
        self._early = []
        self.begun_after = len(manifest.epochs) if manifest is not None else 0
        self.not_kept = {epoch for epoch in self.not_kept if epoch <= self.begun_after}
        self._started_s, self._before_s = None, manifest.wall_s if manifest is not None else 0.0
        self.last_good = f"snapshots/step-{manifest.steps}" if manifest is not None else None
        epochs = manifest.epochs if manifest is not None else ()
        lost = manifest.cache_lost if manifest is not None else ()
        past = replayed_rows(self._schedule, epochs, self.num_blocks, lost)
        for result, blocks in zip(past, epochs, strict=True):
            self._plans.append(result.plan)
            self._finished(result.plan, blocks, cache_lost=result.cache_lost)

    def selection(self, num_validation: int, eval_every: int) -> dict[str, Any]:
        """What the run ends with, and by what that was chosen; see :func:`selection_table`."""
        scores = [self.block_rows(epoch) for epoch in range(len(self._scores))]
        return selection_table(
            self._plans, self.history, scores, num_validation=num_validation, eval_every=eval_every
        )

    @property
    def plans(self) -> Sequence[Plan | None]:
        """All that have become known, in order."""
        return self._plans

    def scores(self, num_epochs: int) -> Sequence[Sequence[BlockScores]]:
        """Of the blocks that were active in each of the first so many epochs."""
        return self._scores[:num_epochs]

    @property
    def gates(self) -> dict[int, GateRow]:
        """How the gate of each block stood in the newest epoch in which the block learned; empty without gates."""
        return gate_rows(self._scores)

    @property
    def cache_lost(self) -> list[int]:
        """Epochs in which the outputs of frozen blocks could not be kept."""
        return [epoch for epoch, result in enumerate(self.history) if result.cache_lost]

    def result(self, body: StageResult) -> None:
        """A stage has ended in order."""
        self.results[body.get("process", body["row"]["stage"])] = body

    def block_rows(self, epoch: int) -> dict[int, BlockScores]:
        """Scores of every block that was active in an epoch, by block."""
        return {block["block"]: block for block in self._scores[epoch]}

    @property
    def is_complete(self) -> bool:
        """Every stage has sent its result."""
        return len(self.results) == self.num_stages

    @property
    def wall_s(self) -> float:
        """Seconds from the moment the last stage was ready to the last epoch's report."""
        if self._started_s is None or not self.history:
            return self._before_s
        return self._before_s + max(0.0, self._ended_s - self._started_s)

    def stage_results(self) -> list[StageResult]:
        """The last reports of all stages, in order."""
        return [self.results[s] for s in range(self.num_stages)]
