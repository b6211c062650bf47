"""A stage's role in a run's exchange of messages, and its times from the moments at which it met the others."""

import statistics
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Literal

import numpy as np

from pipeline.learning.rule import Topology
from pipeline.planning.stage_model import Part, Port, Role, walk
from pipeline.schedules.actions import Action

__all__ = ["chills_of", "parts_of", "role_of"]


def role_of(topology: Topology, partition: Sequence[range], stage: int, *, learns_at_once: bool = False) -> Role:
    """The role of a stage under rules of that topology, which does not settle.

    Args:
        topology: of the rule.
        partition: blocks of every stage.
        stage: its index.
        learns_at_once: hidden blocks learn before their feedback has come, and send theirs on then.
    """
    is_last = stage == len(partition) - 1
    has_below, has_above = stage > 0, not is_last
    if topology is Topology.LOCAL:
        return Role(has_below, has_above)
    # The last block learns at once. Where it is alone on its stage, nothing else does.
    waits = not is_last or len(partition[stage]) > 1
    if topology is Topology.BROADCAST:
        return Role(has_below, has_above, waits, waits and not is_last, "forward" if is_last and has_below else None)
    tells: Literal["forward", "learn"] = "learn" if waits and not learns_at_once else "forward"
    return Role(has_below, has_above, waits, not is_last, tells if has_below else None)


def parts_of(
    actions: Iterable[Action], role: Role, marks: Sequence[tuple[Port, float, float]], begun: float, skip: int
) -> dict[Part, float]:
    """The seconds of each part, from the moments at which a stage met others.

    Where several parts of a forward pass lie between two meetings, only their sum is known, and how it is divided
    changes nothing.

    Args:
        actions: that the stage walked through.
        role: of the stage.
        marks: the port, and the moments at which the stage came to it and left it, in their order.
        begun: the moment at which the stage began.
        skip: marks at the start that do not count.

    Raises:
        ValueError: the stage met others in another order than its actions say.
    """
    spans: dict[tuple[tuple[Part, ...], Port], list[float]] = {}
    passed: list[Part] = []
    left, index = begun, 0
    for action in actions:
        for item in walk(action, role):
            if isinstance(item, Part):
                passed.append(item)
                continue
            if index >= len(marks) or marks[index][0] is not item:
                found = marks[index][0].name if index < len(marks) else "nothing"
                raise ValueError(f"stage and actions disagree (given: {found}, expected: {item.name} at {action})")
            _, came, went = marks[index]
            if index >= skip:
                spans.setdefault((tuple(passed), item), []).append(came - left)
            left, index, passed = went, index + 1, []
    return _solved(spans)


def chills_of(
    marks: Sequence[tuple[Port, float, float]], begun: float, waits: int, skip: int
) -> list[tuple[float, float]]:
    """How much longer a stage computes behind waits, from a run whose steps had no waits, the first ones, the second
    ones, and so on in turns.

    Args:
        marks: as in :func:`parts_of`; a wait is inside of the mark of a message that was taken or heard.
        begun: the moment at which the stage began.
        waits: how many lengths of waits there were in turns, none among them, which comes first.
        skip: steps at the start that do not count.

    Returns:
        Seconds that a message was waited for, rising, and seconds by which the work of a step was longer for each;
        from no wait on. A longer wait never makes a stage faster; where it seems so, it is noise.
    """
    works: list[list[float]] = [[] for _ in range(waits)]
    waited: list[list[float]] = [[] for _ in range(waits)]
    left, work_s, inside, step = begun, 0.0, [], 0
    for port, came, went in marks:
        work_s, left = work_s + came - left, went
        inside += [went - came] if port in (Port.TAKE, Port.HEAR) else []
        if port is Port.DONE:
            if step >= skip and inside:
                works[step % waits].append(work_s / len(inside))
                waited[step % waits] += inside
            work_s, inside, step = 0.0, [], step + 1
    if not all(works):
        return []
    base = _quarter(works[0])
    longer = accumulate((max(0.0, _quarter(found) - base) for found in works), max)
    lengths = accumulate((statistics.median(found) for found in waited[1:]), max)
    return list(zip([0.0, *lengths], longer, strict=True))


def _quarter(found: Sequence[float]) -> float:
    """The lower quartile: whatever else the machine does can only make a step longer."""
    return sorted(found)[len(found) // 4]


def _solved(spans: dict[tuple[tuple[Part, ...], Port], list[float]]) -> dict[Part, float]:
    """Least squares over the spans, each by how often it occurs; the least such numbers where many are right."""
    every = list(Part)
    rows, right = [], []
    for (passed, _), seconds in spans.items():
        weight = len(seconds) ** 0.5
        rows.append([weight * passed.count(part) for part in every])
        right.append(weight * statistics.median(seconds))
    solution = np.linalg.lstsq(np.array(rows), np.array(right), rcond=None)[0]
    return {part: max(0.0, float(value)) for part, value in zip(every, solution, strict=True)}
