"""Cases of a plan with replicas: the run's own schedule with those that the question asks for, as far as the rule has
them."""

import logging
from collections.abc import Sequence

from pipeline.errors import ConfigError
from workers.planner.cases import Case, Planned
from workers.planner.model import Model, Setting
from workers.planner.profiles import Profiles
from workers.planner.rows import replicated

__all__ = ["cases_with_replicas"]

logger = logging.getLogger(__name__)


def cases_with_replicas(
    cases: Sequence[Case], planned: Planned, profiles: Profiles, setting: Setting
) -> list[Case]:
    """The cases of the run's own schedule with replicas; warns, once, where there are none of those asked for.

    Args:
        cases: those without.
        planned: makes cases.
        profiles: of the stages of ``cases``.
        setting: what surrounds them.
    """
    wanted = setting.question.replicas
    found, refusals, fits = [], [], False
    ours = [case for case in cases if case.way.is_ours]
    for case in ours:
        counts = _counts(case, profiles, setting)
        fits = fits or counts is not None
        if counts is None or max(counts) == 1:
            continue
        try:
            found.append(planned.case(case.way, case.stages, counts))
        except ConfigError as error:
            refusals.append(error)
    if refusals:
        logger.warning("replicas are left out of the plan: %s", refusals[0])
    elif ours and isinstance(wanted, tuple) and not fits:
        logger.warning(
            "replicas are left out of the plan (given: --replicas %s with --stages %s, expected: one number, or one "
            "for each stage). Name %d stages, or other replicas.", _joined(wanted), _joined(setting.question.stages),
            len(wanted),
        )  # fmt: skip
    return found


def _counts(case: Case, profiles: Profiles, setting: Setting) -> tuple[int, ...] | None:
    """Replicas of each stage; None where the question has none for so many stages."""
    wanted = setting.question.replicas
    if isinstance(wanted, str):
        return replicated(Model(case, profiles, setting))
    if len(wanted) == 1:
        return wanted * case.stages
    return wanted if len(wanted) == case.stages else None


def _joined(numbers: Sequence[int]) -> str:
    return ",".join(map(str, numbers))
