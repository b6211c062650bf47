"""Time of a simulation in which processes share cores."""

import heapq
import math
from collections import Counter
from collections.abc import Sequence

__all__ = ["Clock"]


class Clock:
    """Moments at which work ends.

    Args:
        cores: of each host, shared evenly among its processes that work.
        slowdowns: of each process: how much longer its work takes while all cores are at work, 1 for no longer.
        hosts: of each process; empty for one host.
    """

    def __init__(self, cores: float, slowdowns: Sequence[float], hosts: Sequence[int] = ()) -> None:
        self.now = 0.0
        self._cores = cores
        self._slowdowns = slowdowns
        self._hosts = hosts or [0] * len(slowdowns)
        self._left: dict[int, float] = {}
        """Seconds of work left, by process, as if it were alone."""
        self._moments: list[tuple[float, int]] = []
        """Of processes that need no core."""

    def work(self, process: int, seconds: float) -> None:
        """A process begins to work, which would take so long alone."""
        if self._cores == math.inf and self._slowdowns[process] == 1.0:
            self.at(self.now + seconds, process)
        else:
            self._left[process] = seconds

    def at(self, moment: float, process: int) -> None:
        """A process goes on at ``moment``."""
        heapq.heappush(self._moments, (moment, process))

    def next(self) -> int | None:
        """Lets time pass until a process can go on; returns it, or None where none is left."""
        running = Counter(self._hosts[process] for process in self._left)
        paces = {process: self._pace(process, running[self._hosts[process]]) for process in self._left}
        ends = {process: self.now + left / paces[process] for process, left in self._left.items()}
        first = min(ends, key=ends.__getitem__, default=None)
        moment = ends[first] if first is not None else math.inf
        is_timed = bool(self._moments) and self._moments[0][0] < moment
        if is_timed:
            moment = self._moments[0][0]
        elif first is None:
            return None
        for process, pace in paces.items():
            self._left[process] = max(0.0, self._left[process] - (moment - self.now) * pace)
        self.now = moment
        if is_timed or first is None:
            return heapq.heappop(self._moments)[1]
        del self._left[first]
        return first

    def _pace(self, process: int, running: int) -> float:
        """Seconds of work that a second brings while so many work on its host."""
        most = self._cores if self._cores < math.inf else len(self._slowdowns)
        load = min(1.0, (running - 1) / (most - 1)) if most > 1 else 0.0
        return min(1.0, self._cores / running) / (1.0 + (self._slowdowns[process] - 1.0) * load)
