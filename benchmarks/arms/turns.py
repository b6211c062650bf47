"""An arm of the throughput benchmark over all rounds: its job, its turns, and its entry in the JSON file."""

import math
import statistics
from dataclasses import dataclass, field, replace
from math import ceil
from typing import Any

from benchmarks.arms.catalogue import Impossible
from benchmarks.arms.job import ArmJob
from benchmarks.arms.launch import Outcome, Status, run
from benchmarks.presets import Precision

__all__ = ["ThroughputArm", "ThroughputSettings"]

_OURS = "benchmarks.arms.onward"
_FEW_STEPS = 20


@dataclass(frozen=True)
class ThroughputSettings:
    """Settings of a measurement: rounds, seconds, limits."""

    rounds: int = 5
    seconds: float = 3.0
    limit_s: float = 60.0
    """Time limit after which a run is killed and its arm given up."""
    bubble_steps: int = 200
    precision: Precision = "medium"
    keeps_memory: bool = True
    arms: tuple[str, ...] = ()
    """Names of the arms to run, see :func:`benchmarks.arms.catalogue.selected`; empty: all."""


@dataclass
class ThroughputArm:
    """One arm over all rounds; a hang or a crash ends it."""

    job: ArmJob | Impossible
    settings: ThroughputSettings
    figure: str = "samples_per_s"
    status: Status = "ok"
    note: str | None = None
    all: list[float | None] = field(default_factory=list)
    """A figure for each round; None where there is none."""
    tables: list[dict[str, Any]] = field(default_factory=list)
    """Figures of each round."""
    whole: dict[str, Any] = field(default_factory=dict)
    """Whole run of one of Onward's arms, from which the bubble and the expected rate are taken."""

    def __call__(self) -> float:
        """Takes its turn; nan where it has no figure."""
        if isinstance(self.job, Impossible):
            self.status, self.note = "impossible", self.job.why
        value = None
        if self.status == "ok" and isinstance(self.job, ArmJob):
            outcome = self._measure(self.job)
            self.status, self.note = outcome.status, outcome.note
            value = outcome.table.get(self.figure)
        self.all.append(value)
        return math.nan if value is None else value

    def _measure(self, job: ArmJob) -> Outcome:
        """One run; our arms train for a number of epochs, so that they need to know their rate."""
        if job.module == _OURS and not self.whole:
            outcome = self._run_whole(job)
            if outcome.status != "ok":
                return outcome
            self.whole = outcome.table
        if job.module == _OURS:
            # The best so far: a disturbed turn must not shorten the next one.
            job = replace(job, rate=max(table["samples_per_s"] for table in [self.whole, *self.tables]))
        outcome = run(job, self.settings.limit_s)
        if outcome.status == "ok":
            self.tables.append(outcome.table)
        return outcome

    def _run_whole(self, job: ArmJob) -> Outcome:
        """A run of ``bubble_steps`` from start to end; of a few where no pipeline could have a bubble."""
        steps = self.settings.bubble_steps if len(job.partition) > 1 else _FEW_STEPS
        return run(replace(job, epochs=ceil(steps / job.preset.steps_per_epoch)), 4 * self.settings.limit_s)

    def entry(self) -> dict[str, Any]:
        """Entry in the JSON file."""
        figures = [value for value in self.all if value is not None]
        is_ok = self.status == "ok" and bool(figures)
        found: dict[str, Any] = {
            self.figure: statistics.median(figures) if is_ok else None, "all": self.all,
            "min": min(figures, default=None), "max": max(figures, default=None), "status": self.status,
        }  # fmt: skip
        if self.note:
            found["note"] = self.note
        if isinstance(self.job, ArmJob):
            found |= _about(self.job)
        if self.tables:
            found |= self._measured()
        if self.whole:
            found |= {"bubble": self.whole["bubble"], "bubble_steps": self.whole["steps"]}
        return found

    def _measured(self) -> dict[str, Any]:
        """Further figures: windows and efficiency of all turns, everything else of the last one."""
        found = {k: v for k, v in self.tables[-1].items() if k != self.figure}
        found["windows"] = [table["windows"] for table in self.tables]
        if "efficiency" in found:
            found["efficiency_all"] = [table["efficiency"] for table in self.tables]
            found["efficiency"] = statistics.median(found["efficiency_all"])
        return found


def _about(job: ArmJob) -> dict[str, Any]:
    """Layout of an arm: processes, threads, partition, micro-batches."""
    is_ours = job.module == _OURS
    processes = len(job.partition) if is_ours else job.processes
    found: dict[str, Any] = {"processes": processes, "threads_per_process": job.threads}
    if len(job.partition) > 1:
        found["partition"] = list(job.partition)
    if job.microbatches:
        found["microbatches"] = job.microbatches
    return found
