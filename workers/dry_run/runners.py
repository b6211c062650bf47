"""Who plays a rehearsal: stages in processes of their own, or in this one, as the run will have them."""

import time
from collections.abc import Sequence
from multiprocessing.connection import Connection, wait
from typing import Any, Self

from workers.dry_run import stage
from workers.dry_run.stage import DryRunSpec, DryRunStage, StageTimings
from workers.host.fork_server import warm_up
from workers.job import Job
from workers.launchers.inline import Turn
from workers.launchers.processes import StageProcesses
from workers.transport import InProcessTransport

__all__ = ["PATIENCE_S", "InProcess", "InProcesses"]

PATIENCE_S = 60.0
"""For anything in a rehearsal; a network that takes longer is not rehearsed to its end."""


class InProcesses:
    """The stages in processes of their own, until the end of the ``with`` statement.

    Raises:
        RuntimeError: one failed.
        TimeoutError: one was not heard of for too long.
    """

    def __init__(self, jobs: Sequence[Job]) -> None:
        warm_up(jobs[0].resolved.config.dataset.name)
        self._processes = StageProcesses(jobs, stage.main)

    def __enter__(self) -> Self:
        try:
            self._hear()
        except BaseException:
            self._processes.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                for link in self._processes.links:
                    link.send(None)
                self._processes.join(PATIENCE_S)
        finally:
            self._processes.stop()

    def measure(self, part: DryRunSpec) -> list[StageTimings]:
        """How each stage played it."""
        for link in self._processes.links:
            link.send(part)
        return self._hear()

    def _hear(self) -> list[Any]:
        """One word of each stage."""
        links = self._processes.links
        heard: dict[Connection, Any] = {}
        deadline = time.monotonic() + PATIENCE_S
        while len(heard) < len(links):
            ready = wait([link for link in links if link not in heard], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise TimeoutError(
                    f"a stage in rehearsal was silent for too long (given: {PATIENCE_S:.0f} s, expected: a few "
                    "batches in that time). Set run.predict = false to leave the rehearsal out."
                )
            for link in ready:
                assert isinstance(link, Connection)
                heard[link] = link.recv()  # EOFError: it died
                if isinstance(heard[link], str) and "TransportTimeout" not in heard[link]:
                    raise RuntimeError(heard[link])
        # A lost neighbour is a consequence; its cause, had there been one to hear, would have been raised above.
        for word in heard.values():
            if isinstance(word, str):
                raise RuntimeError(word)
        return [heard[link] for link in links]


class InProcess:
    """The stages in this process and thread, taking turns."""

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
        for player in self._stages:
            player.transport.abort()
        self._compute.__exit__(None, None, None)

    def measure(self, part: DryRunSpec) -> list[StageTimings]:
        """How each stage played it."""
        runs = [player.prepare(part) for player in self._stages]
        begun = time.perf_counter()
        turns = []
        for run in runs:
            assert isinstance(run.transport, InProcessTransport)
            turns.append(Turn(run, run.transport))
            turns[-1].rest()
        while any(turn.request is not None for turn in turns):
            for turn in turns:
                while turn.can_go_on((None, None)):
                    turn.go_on()
                turn.rest()
        return [player.timings(run, part, begun) for player, run in zip(self._stages, runs, strict=True)]
