"""Cases that this machine can run as they are planned, tried for a moment.

A simulation knows too little of what processes of one machine do to each other: they share caches, memory bandwidth and
clock, where there are more than cores they take turns as the operating system likes, and replicas that wait for each
other in every step feel whatever disturbs either. A second of the run's own processes and transport does know
(:mod:`workers.dry_run`), and is what the run itself would be predicted by. But processes are faster or slower from
start to start, by up to a fifth, so where a simulation knows enough, with a core for every thread, and is far off, they
are started once more, and the middle one of the three counts. Over links, on other hosts, on faster devices and on more
of them the simulation is all there is.
"""

import logging
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from pipeline.planning.taken import Taken
from workers import cost_cache
from workers.dry_run.dry_run import is_crowded, pace_key, rehearse
from workers.host.limits import check_open_files
from workers.memory import check_memory
from workers.planner.cases import Case
from workers.planner.links import Question
from workers.transport import capabilities_of

__all__ = ["Rehearsals"]

logger = logging.getLogger(__name__)

KIND = "rehearsals"
"""Prefix of the cost cache's files."""
_FAR = 0.1
"""Of a simulation, beyond which a case is started once more."""
_MOST_FOR_A_CORE = 4
"""Processes, above which nobody runs a pipeline, and a plan takes too long to start it."""


class Rehearsals:
    """Tries cases, and keeps what it has found in the cost cache.

    Args:
        question: what is planned.
        cores: of this host, that this process may use.
        data_root: where data sets are.
        fresh: try again what is in the cache.
    """

    def __init__(self, question: Question, cores: float, data_root: Path, *, fresh: bool = False) -> None:
        self._question, self._cores, self._data_root, self._fresh = question, cores, data_root, fresh
        self.taken: list[Taken] = []
        """When what was found was found, and how undisturbed."""
        self._gives_up = False

    def step_s(self, case: Case, simulated_s: Callable[[], float]) -> float | None:
        """Seconds from one batch to the next; None where the case need not be tried, or cannot.

        Args:
            case: that may be tried.
            simulated_s: what a simulation says instead.
        """
        if self._gives_up or not self._is_due(case):
            return None
        key, cached = self._key(case), cost_cache.is_cacheable(case.resolved)
        found = _known(cost_cache.recall(KIND, key)) if cached and not self._fresh else None
        if found is None:
            found = self._tried(case, simulated_s)
            if found is None:
                return None
            if cached:
                cost_cache.keep(KIND, key, {"step_s": found[0], "taken": found[1].to_dict()})
        self.taken.append(found[1])
        return found[0]

    def _tried(self, case: Case, simulated_s: Callable[[], float]) -> tuple[float, Taken] | None:
        """Tries a case, twice where once is far from what a simulation knows; None where that fails."""
        found = self._started(case)
        if found is None or is_crowded(case.placement, self._cores):
            return found
        told = simulated_s()
        if abs(found[0] / told - 1) < _FAR or (again := self._started(case)) is None:
            return found
        taken = Taken.together([found[1], again[1]])
        assert taken is not None, "there are two"
        return median([found[0], again[0], told]), taken

    def _started(self, case: Case) -> tuple[float, Taken] | None:
        """Starts a case and measures it; None where that fails."""
        placement, count = case.placement, len(case.placement.devices)
        try:
            check_open_files(count)
            reach = capabilities_of(placement.transport).reach
            check_memory(case.resolved, placement.partition, placement.devices, count, reach, placement.replicas)
            return rehearse(case.resolved, placement, self._cores, self._data_root)
        except TimeoutError as error:
            logger.warning("nothing more is tried for this plan: %s", error)
            self._gives_up = True
        except Exception as error:  # the user's own code may raise anything, and the run will report it better
            logger.debug("the rehearsal failed: %s", error)
        return None

    def _is_due(self, case: Case) -> bool:
        """This machine can run the case as it is planned."""
        asked, config, processes = self._question, case.resolved.config, len(case.placement.devices)
        on_cpu = all(device == "cpu" for device in case.placement.devices)
        here = on_cpu and asked.hosts == 1 and asked.link is None and asked.device_speed == 1.0
        if not here or not config.run.predict or config.chaos.emulates or case.way.is_dealt:
            return False
        return processes <= _MOST_FOR_A_CORE * self._cores

    def _key(self, case: Case) -> dict[str, Any]:
        """Everything that the pace of a case depends on."""
        sizes = [len(blocks) for blocks in case.partition]
        return {
            **pace_key(case.resolved, case.placement), "usable": self._cores, "partition": sizes,
            "replicas": list(case.replicas),
        }  # fmt: skip


def _known(found: Any) -> tuple[float, Taken] | None:
    """What the cache holds of a case; None where that is nothing, or is not believed."""
    try:
        step_s, taken = float(found["step_s"]), Taken.from_dict(found["taken"])
        return (step_s, taken) if step_s > 0 and taken.is_believed else None
    except (KeyError, TypeError, ValueError):
        return None
