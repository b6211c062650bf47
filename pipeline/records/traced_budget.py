"""A time budget that remembers what it booked: every interval, where the stage was then, and every message.

A stage begins about ten intervals in every step, so remembering one appends two numbers to arrays, and nothing is
made of them before the end of the run. A run without a trace uses the plain budget and pays for none of this.
"""

from array import array
from collections.abc import Iterator
from dataclasses import dataclass

from pipeline.records.time_budget import Activity, TimeBudget
from pipeline.schedules.position import Position

__all__ = ["MAX_INTERVALS", "Recording", "TracedBudget"]

MAX_INTERVALS = 500_000
"""Per stage. Recording stops there: about fifty thousand steps, 10 MB in memory and 80 MB in the file."""

_ACTIVITIES = tuple(Activity)
_CODES = {activity: code for code, activity in enumerate(_ACTIVITIES)}


@dataclass(frozen=True)
class Recording:
    """The intervals of one stage, each as long as until the next begins; seconds by the stage's clock."""

    starts_s: "array[float]"
    codes: bytearray
    """Of each interval: the position of its :class:`Activity`."""
    marks: "array[int]"
    """Where the stage was: from which interval on, and the three numbers of its :class:`Position`; four by four."""
    flows: "array[int]"
    """Messages: the interval of the transfer, the stage at the other end, 1 if it was sent; three by three."""
    end_s: float
    is_full: bool
    """Recording stopped at the limit, before the end."""

    def intervals(self) -> Iterator[tuple[float, float, Activity]]:
        """Start, end and activity of each."""
        ends = (*self.starts_s[1:], self.end_s)
        for start, end, code in zip(self.starts_s, ends, self.codes, strict=True):
            yield start, end, _ACTIVITIES[code]


class TracedBudget(TimeBudget):
    """A time budget that remembers its intervals.

    Args:
        limit: intervals after which it stops remembering; the budget itself goes on.
    """

    def __init__(self, limit: int = MAX_INTERVALS) -> None:
        self._starts, self._codes = array("d"), bytearray()
        self._marks, self._flows = array("q"), array("q")
        self._limit = limit
        self._full_s: float | None = None
        super().__init__()

    def restart(self) -> None:
        """See :meth:`TimeBudget.restart`; what came before stays in the trace."""
        super().restart()
        self._begin(self._activity)

    def enter(self, activity: Activity) -> Activity:
        """See :meth:`TimeBudget.enter`."""
        ended = super().enter(activity)
        self._begin(activity)
        return ended

    def _begin(self, activity: Activity) -> None:
        """An interval that starts now."""
        if len(self._codes) < self._limit:
            self._starts.append(self._since)
            self._codes.append(_CODES[activity])
        elif self._full_s is None:
            self._full_s = self._since

    def end_transfer(self, waited: float, wait: Activity, peer: int) -> None:
        """See :meth:`TimeBudget.end_transfer`; the wait and the copying become two intervals."""
        start = self._since
        super().end_transfer(waited, wait, peer)
        if self._full_s is None:
            if waited > 0.0:
                self._codes[-1] = _CODES[wait]
                self._starts.append(start + waited)
                self._codes.append(_CODES[Activity.TRANSFER])
            self._flows.extend((len(self._codes) - 1, peer, wait is Activity.WAIT_SEND))
        self._begin(Activity.OTHER)

    def at(self, position: Position) -> None:
        """See :meth:`TimeBudget.at`; for intervals that begin from now on, the one that goes on belongs to before."""
        super().at(position)
        if self._full_s is None:
            self._marks.extend((len(self._codes), *position))

    def recording(self) -> Recording:
        """The recording up to the last change of activity."""
        end = self._since if self._full_s is None else self._full_s
        return Recording(self._starts, self._codes, self._marks, self._flows, end, self._full_s is not None)
