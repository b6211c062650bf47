"""What a simulated pipeline is made of: stages that walk through action lists, and wires between them.

    FORWARD   take an activation, BEFORE, pass it on, AFTER, tell feedback that leaves at once
    LEARN     hear feedback, LEARN, tell feedback
    STEP      meet the other replicas, STEP
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Literal

import numpy as np

from pipeline.schedules.actions import Action, Op

__all__ = ["Outcome", "Part", "Port", "Role", "StageModel", "Wire", "walk"]


class Part(Enum):
    """Work of an action."""

    BEFORE = "before"
    """Of a forward pass, until the activation is passed on; what blocks learn meanwhile is in it."""
    AFTER = "after"
    """Of a forward pass, what blocks learn behind that."""
    LEARN = "learn"
    STEP = "step"


class Port(Enum):
    """Where a stage meets others."""

    TAKE = "take"
    PASS = "pass"
    HEAR = "hear"
    TELL = "tell"
    MEET = "meet"
    """Before a step: replicas wait for each other, and exchange gradients."""
    DONE = "done"
    """A step has ended."""


@dataclass(frozen=True)
class Role:
    """A stage's part in the exchange of messages."""

    has_below: bool = False
    has_above: bool = False
    waits: bool = False
    """It learns in LEARN, not only in FORWARD."""
    hears: bool = False
    """Feedback comes from another stage."""
    tells: Literal["forward", "learn"] | None = None
    """The action in which its feedback leaves for another stage."""


def walk(action: Action, role: Role) -> Iterator[Part | Port]:
    """What a stage does in an action, in order, as :class:`pipeline.engine.program.Program` does it."""
    if action.op is Op.FORWARD:
        yield from [Port.TAKE] if role.has_below else []
        yield Part.BEFORE
        yield from [Port.PASS] if role.has_above else []
        yield Part.AFTER
        yield from [Port.TELL] if role.tells == "forward" else []
    elif action.op is Op.LEARN:
        if role.waits:
            yield from [Port.HEAR] if role.hears else []
            yield Part.LEARN
            yield from [Port.TELL] if role.tells == "learn" else []
    else:
        yield from (Port.MEET, Part.STEP, Port.DONE)


@dataclass(frozen=True)
class StageModel:
    """One stage."""

    role: Role
    actions: Sequence[Action]
    parts: Mapping[Part, float]
    """Seconds of each part alone on the machine, of one micro-batch or of one step."""
    slowdown: float = 1.0
    """How much longer its work takes while all cores are at work: they share memory and clock."""
    replicas: int = 1
    """Processes to which its micro-batches are dealt in turn."""
    sync_s: float = 0.0
    """Seconds of their exchange of gradients before a step, behind the last of them."""
    sync_late_s: float = 0.0
    """Seconds that what they exchange is on its way, beside their work."""
    sleeps: bool = False
    """It waits in place of computing, and needs no core."""
    host: int = 0
    """Stages of one host share its cores."""
    chills: Sequence[tuple[float, float]] = ()
    """Seconds that it has waited, rising, and those that it then takes longer to compute; none: no longer."""

    def chill_s(self, waited_s: float) -> float:
        """Seconds more of work behind a wait: caches have gone cold, and the core has slept; 0 behind none."""
        return _between(self.chills, waited_s)


@dataclass(frozen=True)
class Wire:
    """The way of a message from one stage to another."""

    num_bytes: int = 0
    depth: float = math.inf
    """Messages that may be sent and not taken."""
    rate: float = math.inf
    """Bytes per second."""
    latency_s: float = 0.0
    send_s: float = 0.0
    """Work of the sender for each message."""
    recv_s: float = 0.0
    """Work of the receiver."""
    lane: str | None = None
    """Wires of one lane share its rate; None: its own."""
    rouse_s: float = 0.0
    """More work of an end that the other has waited for."""
    wakes: Sequence[tuple[float, float]] = ()
    """Of an end: seconds that it has waited, rising, and seconds in which it then wakes up; none: it never sleeps."""

    def wake_s(self, waited_s: float) -> float:
        """Seconds in which an end that has waited so long wakes up; 0 where it has not waited at all."""
        return _between(self.wakes, waited_s)


def _between(pairs: Sequence[tuple[float, float]], waited_s: float) -> float:
    """The second of a pair at ``waited_s``, on lines between the pairs; 0 behind no wait, and where there are none."""
    if waited_s <= 0.0 or not pairs:
        return 0.0
    waits, seconds = zip(*pairs, strict=True)
    return float(np.interp(waited_s, waits, seconds))


@dataclass(frozen=True)
class Outcome:
    """What was simulated."""

    ends: tuple[tuple[float, ...], ...]
    """By stage: when each optimizer step ended, of the last replica; where some blocks learn at once and others late,
    that of the first."""
    busy_s: tuple[float, ...]
    """By stage: seconds of work, messages included, as if it were alone on the machine; a mean of its replicas."""
    working_s: tuple[float, ...]
    """By stage: seconds that this work took, where cores are shared."""
    waits_s: tuple[Mapping[str, float], ...]
    """By stage: seconds spent at each port."""

    @property
    def seconds(self) -> float:
        """Until the last stage's last step."""
        return self.ends[-1][-1]

    def step_s(self, skip: int = 1) -> float:
        """Seconds from one step to the next at the last stage, while every stage is at work.

        Args:
            skip: steps that fill the pipeline, and do not count. Nor do those behind the moment in which the first
                stage has come to its end, as long as one does.
        """
        ends = self.ends[-1]
        start = min(max(skip, 1), len(ends)) - 1
        until = min(found[-1] for found in self.ends)
        counted = sum(moment <= until for moment in ends[: len(ends) - len(ends) // 10])  # the last ones only drain
        last = max(start + 1, counted - 1)
        if last >= len(ends):
            return ends[-1] / len(ends)
        return (ends[last] - ends[start]) / (last - start)
