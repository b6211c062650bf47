"""What is known of stages that have not ended: when each was last heard of, and what it is doing.

Silence alone accuses nobody. On a machine with more stages than cores a beat may be late by seconds, and native code
that keeps the interpreter's lock sends none at all, so a silent process is looked at first: only one that is found
stopped is named at once. Where it cannot be looked at, on another host, the limit is wider.
"""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pipeline.records.reports import Pulse
from pipeline.records.time_budget import Activity
from workers.control import SILENT_S
from workers.host.identity import ProcessIdentity

__all__ = ["ELSEWHERE_S", "Suspect", "StageWatch"]

ELSEWHERE_S = 8.0
"""Longest silence of a stage on another host after its first beat. The kernel finds lost hosts and cables sooner."""
_STALL_S = 2.0
"""A watch that has not looked for so long was itself stopped, or starved, and knows nothing of that time."""

_WORK = frozenset(a.value for a in (Activity.FORWARD, Activity.LEARN, Activity.EVAL, Activity.OTHER))
"""Activities in which a stage waits for no other one."""


@dataclass(frozen=True)
class Suspect:
    """A stage that is to blame."""

    stage: int
    reason: str


class StageWatch:
    """Remembers what stages say, and finds the one that has stopped, hangs, or is lost.

    Args:
        num_stages: of the run.
        timeout_s: longest time in one activity of work, once all stages are ready.
        start_timeout_s: longest time until they are: a stage reads its data, which may be slow.
        identities: of their processes, as far as they are known.
    """

    def __init__(
        self, num_stages: int, timeout_s: float, start_timeout_s: float, identities: Mapping[int, ProcessIdentity]
    ) -> None:
        self._num_stages = num_stages
        self._timeout_s = timeout_s
        self._start_timeout_s = start_timeout_s
        self._identities = identities
        self._started = self._readied = self._looked = self._news = time.monotonic()
        self._heard = dict.fromkeys(range(num_stages), self._started)
        self._pulses: dict[int, Pulse] = {}
        self._ready: set[int] = set()
        self._beaten: set[int] = set()

    def hear(self, stage: int) -> None:
        """A stage has reported something."""
        self._news = self._heard[stage] = time.monotonic()

    def beat(self, stage: int, pulse: Pulse | None) -> None:
        """A stage's beat; without a pulse while it unpacks its job."""
        self._heard[stage] = time.monotonic()
        self._beaten.add(stage)
        if pulse is not None:
            self._pulses[stage] = pulse

    def ready(self, stage: int) -> None:
        """A stage is built and connected."""
        self._ready.add(stage)
        self._readied = time.monotonic()

    @property
    def all_ready(self) -> bool:
        """Every stage is."""
        return len(self._ready) == self._num_stages

    @property
    def patience_s(self) -> float:
        """Longest time without progress: a stage that reads its data says nothing until it is ready."""
        return self._timeout_s if self.all_ready else self._start_timeout_s

    def suspect(self, stages: Iterable[int]) -> Suspect | None:
        """The first of ``stages``, none of which has ended, that has stopped, hangs, or is lost; call it often."""
        now = time.monotonic()
        if now - self._looked > _STALL_S:
            self._heard = {stage: max(heard, now) for stage, heard in self._heard.items()}
            self._news = now
        self._looked = now
        running = list(stages)
        for stage in running:
            reason = self._silence_of(stage, now) or self._hang_of(stage, now)
            if reason is not None:
                return Suspect(stage, reason)
        return self._standstill(running, now)

    def behind(self, stages: Iterable[int]) -> Suspect | None:
        """The stage for which others have waited in vain: stopped, or longest at work, and that for long."""
        running = list(stages)
        for stage in running:
            if self._is_stopped(stage):
                return Suspect(stage, self._stopped(stage))
        at_work = [s for s in running if s in self._pulses and self._pulses[s]["activity"] in _WORK]
        longest = max(at_work, key=self._seconds, default=None)
        if longest is None or self._seconds(longest) < self._timeout_s / 2:
            return None
        return Suspect(longest, f"{self._doing(longest)}, and others have waited for it. {self._advice()}")

    def _silence_of(self, stage: int, now: float) -> str | None:
        """What is wrong with a stage that has missed its beats, if anything."""
        silent = now - self._heard[stage]
        if silent <= SILENT_S:
            return None
        identity = self._identities.get(stage)
        if identity is not None and identity.is_here:
            if identity.is_stopped:
                return self._stopped(stage)
            limit = max(self.patience_s, SILENT_S)
            known = "its process runs: native code may hold the interpreter's lock"
        else:
            is_known = identity is not None and stage in self._beaten  # before, it imports what its job needs
            limit = ELSEWHERE_S if is_known else max(self.patience_s, SILENT_S)
            known = "it was stopped, or its host or the network between is gone"
        if silent <= limit:
            return None
        return f"nothing has been heard of it for {silent:.0f} s; {known}. {self._last_words(stage)}"

    def _is_stopped(self, stage: int) -> bool:
        """Its process can be seen, and a signal has stopped it."""
        identity = self._identities.get(stage)
        return identity is not None and identity.is_stopped

    def _stopped(self, stage: int) -> str:
        """The reason for a stopped stage."""
        return (
            f"its process was stopped by a signal (pid {self._identities[stage].pid}, SIGSTOP or the like). "
            f"{self._last_words(stage)} Send SIGCONT sooner, or stop the whole run."
        )

    def _last_words(self, stage: int) -> str:
        """What its last beat said."""
        return f"Before, {self._doing(stage)}." if stage in self._pulses else "It was starting."

    def _hang_of(self, stage: int, now: float) -> str | None:
        """What is wrong with a stage that beats and does nothing else, if anything."""
        pulse = self._pulses.get(stage)
        if pulse is None:
            starting = now - self._started
            if starting <= self.patience_s:
                return None
            return f"it has been starting for {starting:.0f} s. {self._advice()}"
        # What took long before the last stage became ready is no hang: the beat may be from then.
        seconds = min(pulse["seconds"], now - self._readied) if self.all_ready else pulse["seconds"]
        if pulse["activity"] not in _WORK or seconds <= self.patience_s:
            return None
        return f"{self._doing(stage)}. {self._advice()}"

    def _standstill(self, running: list[int], now: float) -> Suspect | None:
        """All stages wait, and nothing comes of it."""
        if not running or now - self._news <= self.patience_s:
            return None
        if any(s in self._pulses and self._pulses[s]["activity"] in _WORK for s in running):
            return None
        missing = [s for s in running if s not in self._ready] or running
        return Suspect(
            missing[0],
            f"nothing was heard of it or any other stage for {now - self._news:.0f} s, and all of them wait. "
            f"{self._advice()}",
        )

    def _doing(self, stage: int) -> str:
        """The activity of a stage: ``it has been in learn of step 417 for 40 s``."""
        pulse = self._pulses[stage]
        if pulse["step"] < 0:
            where = "" if self.all_ready else ", reading its data or connecting,"
        elif pulse["evaluates"]:
            where = f" of test batch {pulse['step']} of epoch {pulse['epoch']}"
        else:
            where = f" of step {pulse['step']}"
        return f"it has been in {pulse['activity']}{where} for {self._seconds(stage):.0f} s"

    def _seconds(self, stage: int) -> float:
        """In its activity, by its last beat."""
        return self._pulses[stage]["seconds"]

    def _advice(self) -> str:
        """The next move."""
        key, doing = "start_timeout_s", "reading the data"
        if self.all_ready:
            key, doing = "timeout_s", "one batch of one stage"
        return f"(run.{key}: {self.patience_s:g}.) Raise it if {doing} takes longer."
