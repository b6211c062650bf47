"""A stage's role in a run's exchange of messages, and its times from the moments at which it met the others."""

import statistics
from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np

from pipeline.learning.rule import Topology
from pipeline.planning.stage_model import Part, Port, Role, walk
from pipeline.schedules.actions import Action

__all__ = ["parts_of", "role_of"]


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

    Where several parts lie between two meetings, only their sum is known, and how it is divided changes nothing.

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
