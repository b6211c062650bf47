"""When something was measured, and how undisturbed: the age of a prediction, and whether to believe it.

A thread that computes and nothing else has a processor for all of its time. Where it had less, other programs ran on
its core, and what it was timed at is too long. What was measured so is shown as such, and measured again some minutes
later: at once would never end on a machine that is always shared.
"""

import math
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from pipeline.records.number_text import duration

__all__ = ["LEAST_SHARE", "Repeats", "Taken", "Watched", "repeat"]

LEAST_SHARE = 0.9
"""Of its time that a measuring thread had a processor, below which it was disturbed."""
_OLD_S = 60.0
_BELIEVED_S = 600.0
"""For so long what was measured on a busy machine is believed: by then it may have less to do."""


@dataclass(frozen=True)
class Taken:
    """When, and how undisturbed."""

    at: float
    """Seconds since 1970."""
    share: float | None = None
    """Processor time of the measuring thread over its time, 1 undisturbed; None where that tells nothing: where a
    device computes, or a sleep stands for computing."""
    spread: float | None = None
    """The median over the least of repeated calls, 1 undisturbed; None where there is none."""

    @property
    def is_busy(self) -> bool:
        """Other programs ran meanwhile."""
        return self.share is not None and self.share < LEAST_SHARE

    @property
    def is_believed(self) -> bool:
        """It need not be measured again."""
        return not self.is_busy or self.age_s() < _BELIEVED_S

    def age_s(self, now: float | None = None) -> float:
        """Seconds until ``now``, in seconds since 1970; None: until this moment."""
        return max(0.0, (time.time() if now is None else now) - self.at)

    def words(self, age_s: float) -> str:
        """``measured 3 h 12 min ago (--fresh measures again)``; empty where it is new and undisturbed."""
        old = f"measured {duration(age_s)} ago" if age_s >= _OLD_S else "measured"
        if self.share is not None and self.is_busy:
            return f"{old} on a busy machine ({self.share * 100:.0f} % of a core; --fresh measures again)"
        return f"{old} (--fresh measures again)" if age_s >= _OLD_S else ""

    def told(self, age_s: float | None = None) -> dict[str, Any]:
        """As it stands in results and plans. Args: age_s, when they were made; None: until this moment."""
        age_s = self.age_s() if age_s is None else age_s
        return {"at": self.at, "age_s": age_s, "cpu_share": self.share, "is_busy": self.is_busy}

    def to_dict(self) -> dict[str, Any]:
        """For JSON, to be read again."""
        return asdict(self)

    @classmethod
    def from_dict(cls, table: Mapping[str, Any]) -> "Taken":
        """From :meth:`to_dict`'s table.

        Raises:
            KeyError, TypeError, ValueError: it is none.
        """
        share, spread = (None if table[name] is None else float(table[name]) for name in ("share", "spread"))
        found = cls(float(table["at"]), share, spread)
        if not all(0 <= number < math.inf for number in (found.at, share or 0.0, spread or 0.0)):
            raise ValueError(f"nothing was measured so (given: {table}, expected: numbers from 0). Measure again.")
        return found

    @classmethod
    def together(cls, parts: Iterable["Taken"]) -> "Taken | None":
        """Of what all of them went into: the oldest moment, the least share, the largest spread; None of none."""
        found = list(parts)
        if not found:
            return None
        shares = [each.share for each in found if each.share is not None]
        spreads = [each.spread for each in found if each.spread is not None]
        return cls(min(each.at for each in found), min(shares, default=None), max(spreads, default=None))


@dataclass
class Watched:
    """Time of this thread, and its processor time, added up over pieces of work."""

    wall_s: float = 0.0
    cpu_s: float = 0.0

    @contextmanager
    def work(self) -> Iterator[None]:
        """A piece of it."""
        wall, cpu = time.perf_counter(), time.thread_time()
        try:
            yield
        finally:
            self.cpu_s += time.thread_time() - cpu
            self.wall_s += time.perf_counter() - wall

    @property
    def share(self) -> float | None:
        """Processor time over time, at most 1; None where no time has passed."""
        return min(1.0, self.cpu_s / self.wall_s) if self.wall_s > 0 else None


@dataclass(frozen=True)
class Repeats:
    """Seconds of calls of the same work."""

    seconds: tuple[float, ...]
    watched: Watched = field(default_factory=Watched)

    @property
    def least_s(self) -> float:
        """Of the shortest call.

        Not the median: whatever else the machine does can only make a call longer, and costs that are compared with
        each other are measured one after another.
        """
        return min(self.seconds)

    @property
    def spread(self) -> float | None:
        """The median over the least; None where that is 0."""
        return statistics.median(self.seconds) / self.least_s if self.least_s > 0 else None


def repeat(step: Callable[[], object], repeats: int = 5, limit_s: float = math.inf) -> Repeats:
    """Times ``step`` several times, after one call that is not counted.

    Args:
        step: what is timed.
        repeats: the most calls that are counted.
        limit_s: none is begun after that many seconds of counted ones; one is in any case.
    """
    step()
    durations: list[float] = []
    watched = Watched()
    with watched.work():
        while not durations or (len(durations) < repeats and sum(durations) < limit_s):
            start = time.perf_counter()
            step()
            durations.append(time.perf_counter() - start)
    return Repeats(tuple(durations), watched)
