"""Pool of runs: several at once, each in a process of its own; all end with this process."""

import time
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from workers.host.signals import signals_held

__all__ = ["Going", "run_all"]

_PAUSE_S = 0.1
Job = TypeVar("Job")
Result = TypeVar("Result", covariant=True)
Found = TypeVar("Found")


class Going(Protocol[Result]):
    """A run that has been started."""

    def poll(self) -> Result | None:
        """What it has come to; None while it goes on."""

    def tell(self) -> None:
        """Tells it to end, and does not wait."""

    def stop(self) -> None:
        """Ends it."""


def run_all(
    jobs: Sequence[Job], limit: int, start: Callable[[Job], Going[Found]], on_end: Callable[[Job, Found], None]
) -> None:
    """Runs every job, the first ones first.

    Where this is interrupted, everything that goes on is told to end at once and then waited for, whatever comes
    meanwhile.

    Args:
        jobs: what to run.
        limit: runs at once.
        start: starts one.
        on_end: called with what each has come to, as it ends.
    """
    waiting, going = list(reversed(jobs)), list[tuple[Job, Going[Found]]]()
    try:
        while waiting or going:
            while waiting and len(going) < limit:
                job = waiting.pop()
                going.append((job, start(job)))
            time.sleep(_PAUSE_S)
            for job, run in list(going):
                found = run.poll()
                if found is not None:
                    going.remove((job, run))
                    on_end(job, found)
    finally:
        with signals_held():
            for _, run in going:
                run.tell()
            for _, run in going:
                run.stop()
