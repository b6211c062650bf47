"""What the timings of all stages of a dry run say together: the pace, and how undisturbed it was."""

import statistics
import time
from collections.abc import Sequence
from itertools import pairwise

from pipeline.learning.rule import Topology
from pipeline.planning.taken import Taken
from pipeline.resolve import RunSpec
from workers.dry_run.stage import StageTimings

__all__ = ["steady_from", "step_s_of", "steps_ahead", "taken_of", "together"]

_DEEP = 8
"""Messages in a queue beyond which nobody waits for it to fill."""


def steps_ahead(resolved: RunSpec, num_stages: int, room: int) -> int:
    """Steps by which the first stage of a local rule may run ahead of the last one, until all queues are full.

    Stages that share cores run ahead for as long as that: before so many steps the last one is slower than it will be,
    and behind the first one's end it is faster.

    Args:
        resolved: the run.
        num_stages: of its pipeline.
        room: steps that there is time for beside those that count; half of them at most.
    """
    if resolved.topology is not Topology.LOCAL:
        return 0
    queue = min(resolved.config.transport.depth, _DEEP) // resolved.batching.microbatches
    return max(0, min((num_stages - 1) * (queue + 1), room // 2))


def steady_from(num_steps: int, ahead: int) -> int:
    """The first of so many steps that counts, where stages run ``ahead`` steps ahead."""
    return ahead + (num_steps - 2 * ahead) // 4


def taken_of(timings: Sequence[StageTimings], steady: int) -> Taken:
    """How undisturbed the stages were, the most disturbed of them; the spread is that of the last one's steps."""
    shares = [stage.share for stage in timings if stage.share is not None]
    steps = [later - earlier for earlier, later in pairwise(timings[-1].steps[steady:])]
    spread = statistics.median(steps) / min(steps) if steps and min(steps) > 0 else None
    return Taken(time.time(), min(shares, default=None), spread)


def step_s_of(timings: Sequence[StageTimings], steady: int) -> float:
    """Seconds from one batch to the next at the last stage, while every stage is at work.

    A stage that has run ahead ends first, and those above it then run faster. The result is the median of up to five
    spans, so that a moment in which the machine did something else does not count.

    Args:
        timings: of all stages, in order.
        steady: first step that counts.
    """
    all_at_work = together(timings, steady)
    counted = all_at_work if len(all_at_work) > 1 else timings[-1].steps[steady:]
    length = -(-(len(counted) - 1) // 5)
    ends = counted[::length]
    return statistics.median(later - earlier for earlier, later in pairwise(ends)) / length


def together(timings: Sequence[StageTimings], steady: int) -> list[float]:
    """Ends of the last stage's steps, from ``steady`` on, while every stage is at work."""
    until = min(stage.steps[-1] for stage in timings)
    return [moment for moment in timings[-1].steps[steady:] if moment <= until]
