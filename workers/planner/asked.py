"""The cases that a question asks for: every way of training on every number of stages, as far as they can be."""

import logging
from collections.abc import Collection

from pipeline.errors import ConfigError
from workers.planner.cases import Case, NoRoom, Planned
from workers.planner.links import Question
from workers.planner.ways import WAYS, Way

__all__ = ["planned_runs"]

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
        case = _case(planned, way, stages)
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


def _case(planned: Planned, way: Way, stages: int) -> Case | ConfigError:
    """A case, or why it is left out."""
    try:
        return planned.case(way, stages)
    except ConfigError as error:
        if way.is_ours and not isinstance(error, NoRoom):
            raise
        return error
