"""Run state: collects stage reports and publishes plans. The coordinator's logic, without its connections."""

import time

from pipeline.errors import NonFiniteError
from pipeline.records.first_bad import FirstBad
from pipeline.records.reports import BlockScores, StageEpoch, StageProgress, StageResult
from pipeline.records.run_record import Recorder
from pipeline.records.view import View
from pipeline.schedules.plan import Plan
from pipeline.schedules.schedule import EpochResult, Schedule

__all__ = ["RunState"]

_AHEAD = 64
"""Epochs whose plans are published before they are due, where they do not depend on results."""


class RunState:
    """Collects what stages report and asks the schedule for plans.

    Args:
        schedule: decides the plans.
        num_stages: that report.
        num_blocks: of the network.
        recorder: takes every row.
        view: shows progress.
    """

    def __init__(
        self, schedule: Schedule, num_stages: int, num_blocks: int, recorder: Recorder, view: View
    ) -> None:
        self.history: list[EpochResult] = []
        self.last_scores: dict[int, BlockScores] = {}
        """The newest row of every block that was evaluated."""
        self.skipped: dict[int, int] = {}
        """Batches that each block has left out, of those that did."""
        self.results: dict[int, StageResult] = {}
        """Each stage's last report."""
        self.num_stages = num_stages
        self._schedule = schedule
        self.num_blocks = num_blocks
        self._recorder = recorder
        self._view = view
        self._plans: list[Plan | None] = []
        self._rows: dict[int, list[StageEpoch]] = {}
        self.last_good: str | None = None
        """The newest snapshot that is complete, for the message of a run that leaves the finite numbers."""
        self._first_bad = FirstBad(num_stages)
        self._started_s: float | None = None
        self._ended_s = 0.0

    def new_plans(self) -> list[tuple[int, Plan | None]]:
        """The plans that have become known since the last call, with their epochs; None ends the run."""
        found: list[tuple[int, Plan | None]] = []
        while not self._plans or self._plans[-1] is not None:
            epoch = len(self._plans)
            if epoch >= len(self.history) + _AHEAD:
                break
            if self._schedule.depends_on_results and len(self.history) < epoch:
                break
            plan = self._schedule.plan(epoch, self.history if self._schedule.depends_on_results else ())
            self._plans.append(plan)
            if plan is not None:
                self._view.planned(plan)
            found.append((epoch, plan))
        return found

    def ready(self) -> None:
        """A stage is built and connected; the run's clock starts when the last one is."""
        self._started_s = time.perf_counter()
        self._view.started()

    def progress(self, body: StageProgress) -> None:
        """News inside an epoch."""
        self._view.progress(body)
        self._hear(body, whole=False)

    def epoch(self, body: StageEpoch) -> None:
        """A stage has finished an epoch."""
        self._recorder.write({"event": "epoch", **body})
        rows = self._rows.setdefault(body["epoch"], [])
        rows.append(body)
        self._hear(body, whole=True)
        if len(rows) < self.num_stages:
            return
        plan = self._plans[body["epoch"]]
        assert plan is not None
        blocks = sorted((b for row in rows for b in row["blocks"]), key=lambda b: b["block"])
        losses: list[float | None] = [None] * self.num_blocks
        for block in blocks:
            losses[block["block"]] = block["train_loss"]
            if "skipped" in block:
                self.skipped[block["block"]] = self.skipped.get(block["block"], 0) + block["skipped"]
            if block["test_accuracy"] is not None:
                self.last_scores[block["block"]] = block
        self.history.append(EpochResult(plan, tuple(losses)))
        self._ended_s = time.perf_counter()
        self._view.epoch(plan, blocks)

    def _hear(self, body: StageProgress | StageEpoch, *, whole: bool) -> None:
        """What a stage has found out about its numbers.

        Raises:
            NonFiniteError: the first that are not finite are known.
        """
        found = self._first_bad.hear(body["stage"], body["checked"], body.get("nonfinite"), whole=whole)
        if found is not None:
            raise NonFiniteError(found, self.last_good)

    def result(self, body: StageResult) -> None:
        """A stage has ended in order."""
        self.results[body["row"]["stage"]] = body

    def block_rows(self, epoch: int) -> dict[int, BlockScores]:
        """Scores of every block that was active in an epoch, by block."""
        return {block["block"]: block for row in self._rows[epoch] for block in row["blocks"]}

    @property
    def is_complete(self) -> bool:
        """Every stage has sent its result."""
        return len(self.results) == self.num_stages

    @property
    def wall_s(self) -> float:
        """Seconds from the moment the last stage was ready to the last epoch's report."""
        return self._ended_s - self._started_s if self._started_s is not None and self.history else 0.0

    def stage_results(self) -> list[StageResult]:
        """The last reports of all stages, in order."""
        return [self.results[s] for s in range(self.num_stages)]
