"""All stages in one process and one thread, taking turns: for debugging, and the oracle of the other runners.

The programs are the same generators that processes drive. Here each is advanced until it asks for something that is
not there yet, then the next one gets its turn. Nothing can wait, so a circle of waits is an error at once.
"""

from collections.abc import Sequence
from typing import Any

from pipeline.engine.requests import NextPlan, Receive, Request, Send
from pipeline.errors import ConfigError
from pipeline.records.run_state import RunState
from pipeline.records.time_budget import Activity
from pipeline.schedules.plan import Plan
from workers.job import Job
from workers.stage_build import open_ends
from workers.trace_file import open_budget
from workers.transport import InProcessTransport
from workers.worker import StageRun, build_program

__all__ = ["Turn", "run_inline"]


class Turn:
    """A stage that shares one thread with the others, paused at its next unanswered request."""

    def __init__(self, run: StageRun, transport: InProcessTransport) -> None:
        self.run = run
        self.transport = transport
        self._steps = run.program.run()
        self.request: Request | None = self._steps.send(None)

    def can_go_on(self, plans: Sequence[Plan | None]) -> bool:
        """True if the request can be answered now."""
        if isinstance(self.request, Receive):
            return self.transport.can_recv(self.request.src)
        if isinstance(self.request, Send):
            return self.transport.can_send(self.request.dst)
        if isinstance(self.request, NextPlan):
            return self.request.epoch < len(plans)
        return self.request is not None

    def rest(self) -> None:
        """Another stage's turn: until :meth:`go_on` this one waits for what it has requested."""
        waits_for_room = isinstance(self.request, Send)
        self.run.program.budget.enter(Activity.WAIT_SEND if waits_for_room else Activity.WAIT_RECV)

    def go_on(self) -> None:
        """Answers the request and advances to the next; ``request`` is None at the end."""
        assert self.request is not None
        reply: Any = self.run.answer(self.request)
        try:
            self.request = self._steps.send(reply)
        except StopIteration:
            self.request = None


def run_inline(jobs: Sequence[Job], run_state: RunState) -> None:
    """Runs every stage of a run here; results end up in ``run_state``.

    Args:
        jobs: of all stages, in order.
        run_state: decides the plans and takes the reports.

    Raises:
        RuntimeError: every stage waits for another.
    """
    with jobs[0].compute():
        _take_turns(jobs, run_state)


def _take_turns(jobs: Sequence[Job], run_state: RunState) -> None:
    """See :func:`run_inline`."""
    plans: list[Plan | None] = list(run_state.plans)

    def report(topic: str, body: Any) -> None:
        getattr(run_state, topic)(body)

    turns = []
    for job in jobs:
        program = build_program(job, open_budget(job))
        transport = open_ends(job)
        if not isinstance(transport, InProcessTransport):
            raise ConfigError(
                f"the transport {job.transport!r} declares that it connects the stages of one process and cannot "
                f"(given: {type(transport).__name__}, expected: an InProcessTransport). Correct the class or the "
                "declaration."
            )
        turns.append(Turn(StageRun(job, program, transport, plans.__getitem__, report, in_background=False), transport))
    run_state.ready()
    for turn in turns:
        turn.run.program.budget.restart()
        turn.rest()
    while any(turn.request is not None for turn in turns):
        plans += [plan for _, plan in run_state.new_plans()]
        ready = [turn for turn in turns if turn.can_go_on(plans)]
        if not ready:
            waits = ", ".join(f"stage {t.run.job.process}: {t.request}" for t in turns)
            raise RuntimeError(f"every stage waits for another ({waits}). Raise transport.depth.")
        for turn in ready:
            while turn.can_go_on(plans):
                turn.go_on()
            turn.rest()
    for turn in turns:
        run_state.result(turn.run.finish())
        turn.transport.close(0.0)
