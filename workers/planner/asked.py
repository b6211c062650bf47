"""The cases that a question asks for: every way of training on every number of stages, as far as they can be."""

import logging
from collections.abc import Collection

from pipeline.errors import ConfigError
from workers.memory import check_memory
from workers.planner.cases import Case, Planned
from workers.planner.links import Question
from workers.planner.ways import WAYS, Way
from workers.transport import capabilities_of

__all__ = ["check_host", "planned_runs"]

logger = logging.getLogger(__name__)


def planned_runs(planned: Planned, question: Question, ways: Collection[str] = ()) -> list[Case]:
    """Every case that the question asks for. Left out, with a warning for each way, are those that do not fit into the
    memory of a host, and of other ways than the run's own those that the rule, the batch or a block refuses.

    Args:
        planned: makes cases.
        question: what is to be planned.
        ways: names of those that are wanted; empty for all.

    Raises:
        ConfigError: the run's own way is refused, or every one of ``ways``; the first reason of those.
    """
    asked = [
        (way, stages) for way in WAYS for stages in question.stages
        if way.is_ours or (stages == 1) == way.is_one_process
    ]  # fmt: skip
    if 1 not in question.stages:
        asked += [(way, 1) for way in WAYS if way.is_one_process]
    asked = [(way, stages) for way, stages in asked if not ways or way.name in ways]
    found: list[Case] = []
    refusals: dict[str, tuple[list[str], ConfigError]] = {}
    for way, stages in asked:
        case = _case(planned, way, stages, question.hosts)
        if isinstance(case, Case):
            found.append(case)
        else:
            refusals.setdefault(way.name, ([], case))[0].append(str(stages))
    for wanted in ([way for way, _ in asked], [way for way, _ in asked if way.is_ours]):
        if wanted and not any(case.way in wanted for case in found):
            raise next(refusals[way.name][1] for way in wanted)
    for name, (numbers, why) in refusals.items():
        logger.warning("%s on %s is left out of the plan: %s", name, ", ".join(numbers), why)
    return found


def _case(planned: Planned, way: Way, stages: int, hosts: int) -> Case | ConfigError:
    """A case, or why it is left out."""
    try:
        case = planned.case(way, stages)
    except ConfigError as error:
        if way.is_ours:
            raise
        return error
    try:
        check_host(case, hosts)
    except ConfigError as error:
        return error
    return case


def check_host(case: Case, hosts: int) -> None:
    """Refuse a case that does not fit into the memory of a host like this one; of a GPU's it is not known before stages
    are measured.

    Args:
        case: whose processes are dealt to the hosts.
        hosts: their number.

    Raises:
        ConfigError: it does not.
    """
    placement = case.placement
    if placement.devices[0] == "cpu":
        here = -(-len(placement.devices) // hosts)
        reach = capabilities_of(placement.transport).reach
        check_memory(case.resolved, placement.partition, placement.devices, here, reach, placement.replicas)
