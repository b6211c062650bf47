"""Runners of a dry run: its stages in processes of their own, or in this one, as the run will have them."""

import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from multiprocessing.connection import Connection, wait
from typing import Any, Self

from pipeline.planning.taken import Watched
from workers import messages
from workers.dry_run.stage import DryRunSpec, DryRunStage, StageTimings, main
from workers.host.fork_server import warm_up
from workers.job import Job
from workers.launchers.inline import Turn
from workers.launchers.processes import StageProcesses
from workers.transport import InProcessTransport

__all__ = ["PATIENCE_S", "OneProcess", "ProcessPerStage"]

PATIENCE_S = 60.0
"""Limit in seconds for any step of a dry run; a network that takes longer is not predicted."""


class ProcessPerStage:
    """Runs the stages in processes of their own, until the end of the ``with`` statement.

    Args:
        jobs: of all stages, in order.

    Raises:
        RuntimeError: a stage failed.
        TimeoutError: a stage did not answer for ``PATIENCE_S``.
    """

    def __init__(self, jobs: Sequence[Job]) -> None:
        warm_up(jobs[0].resolved.config.dataset.name)
        self._processes = StageProcesses(jobs, main)

    def __enter__(self) -> Self:
        try:
            self._answers()
        except BaseException:
            self._processes.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                for link in self._processes.links:
                    messages.send(link, "spec", None)
                self._processes.join(PATIENCE_S)
        finally:
            self._processes.stop()

    def measure(self, spec: DryRunSpec) -> list[StageTimings]:
        """Run ``spec`` once; returns the timings of the stages, in order."""
        for link in self._processes.links:
            messages.send(link, "spec", asdict(spec))
        return [StageTimings(**timings) for timings in self._answers()]

    def _answers(self) -> list[Any]:
        """Wait for one answer of each stage."""
        links = self._processes.links
        answers: dict[Connection, Any] = {}
        deadline = time.monotonic() + PATIENCE_S
        while len(answers) < len(links):
            ready = wait([link for link in links if link not in answers], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise TimeoutError(
                    f"a stage of the dry run did not answer in time (given: {PATIENCE_S:.0f} s, expected: a few "
                    "batches in that time). Set run.predict = false to leave the dry run out."
                )
            for link in ready:
                assert isinstance(link, Connection)
                answer = answers[link] = messages.receive(link)[1]  # EOFError: it died
                if isinstance(answer, str) and "TransportTimeout" not in answer:
                    raise RuntimeError(answer)
        # A lost neighbour is a consequence; its cause, had a stage reported one, would have been raised above.
        for answer in answers.values():
            if isinstance(answer, str):
                raise RuntimeError(answer)
        return [answers[link] for link in links]


class OneProcess:
    """Runs the stages in this process and thread, taking turns, until the end of the ``with`` statement.

    Args:
        jobs: of all stages, in order.
    """

    def __init__(self, jobs: Sequence[Job]) -> None:
        self._jobs, self._compute = jobs, jobs[0].compute()
        self._stages: list[DryRunStage] = []

    def __enter__(self) -> Self:
        self._compute.__enter__()
        try:
            for job in self._jobs:
                self._stages.append(DryRunStage(job))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for stage in self._stages:
            stage.transport.abort()
        self._compute.__exit__(None, None, None)

    def measure(self, spec: DryRunSpec) -> list[StageTimings]:
        """Run ``spec`` once; returns the timings of the stages, in order."""
        runs = [stage.prepare(spec) for stage in self._stages]
        begun = time.perf_counter()
        turns = []
        for run in runs:
            assert isinstance(run.transport, InProcessTransport)
            turns.append(Turn(run, run.transport))
            turns[-1].rest()
        watched = Watched()
        with watched.work():
            while any(turn.request is not None for turn in turns):
                for turn in turns:
                    while turn.can_go_on((None, None)):
                        turn.go_on()
                    turn.rest()
        share = watched.share if all(stage.stage.device.type == "cpu" for stage in self._stages) else None
        pairs = zip(self._stages, runs, strict=True)
        return [replace(stage.timings(run, spec, begun), share=share) for stage, run in pairs]
