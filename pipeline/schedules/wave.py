"""The staged wave: blocks start to learn one after another, from the bottom up, at times that are known before.

With t optimizer steps done, that of the moment included, block l, counted from 1, takes the part

    r_l(t) = clip((t - (l - 1) Delta) / w, 0, 1)

of its step, and none any more once it has learned for T. A function of the step alone: no stage asks another one for
it, and a run that goes on needs no state of it.
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import ClassVar, Self

from pipeline.config import Config
from pipeline.config.gate import GateConfig
from pipeline.schedules.plan import BlockMode, Plan
from pipeline.schedules.schedule import EpochResult, Parallel, Schedule

__all__ = ["Staged", "Wave", "gated", "turns_of"]


def turns_of(num_blocks: int, frozen: Collection[int] = ()) -> tuple[int, ...]:
    """Of each block, the number of blocks that start before it; one that never learns goes with that below it."""
    turns, learning = [], 0
    for k in range(num_blocks):
        turns.append(learning if k not in frozen else max(learning - 1, 0))
        learning += k not in frozen
    return tuple(turns)


def _exactly(number: float) -> Fraction:
    """The decimal number that a config has: 0.1 is a tenth."""
    return Fraction(repr(float(number)))


@dataclass(frozen=True)
class Wave:
    """The part of its step that each block takes, in steps of the run."""

    starts: tuple[float, ...]
    """Of each block: steps that are done before it starts."""
    ramp: float
    """Steps over which its own ones grow."""
    length: float
    """Steps from its start after which it takes none."""
    num_steps: int
    """Of an epoch."""

    @classmethod
    def of(cls, gate: GateConfig, turns: Collection[int], num_steps: int) -> Self:
        """The wave of a run. Args: turns, see :func:`turns_of`; num_steps, of an epoch."""
        delay, ramp, length = (_exactly(n) * num_steps for n in (gate.delay, gate.ramp, gate.train_for))
        return cls(tuple(float(turn * delay) for turn in turns), float(ramp), float(length) or math.inf, num_steps)

    def part(self, block: int, step: int) -> float:
        """What a block takes of its step ``step`` of the run, counted from 0: 0 to 1."""
        since = step + 1 - self.starts[block]
        if since <= 0.0 or since > self.length:
            return 0.0
        return 1.0 if since >= self.ramp else since / self.ramp

    def mean(self, block: int, epoch: int) -> float:
        """The mean of the parts in an epoch, counted from 0."""
        first = epoch * self.num_steps
        return sum(self.part(block, step) for step in range(first, first + self.num_steps)) / self.num_steps


@dataclass(frozen=True, slots=True)
class Staged(Schedule):
    """The plans of a wave: a block is idle up to the epoch in which it starts, and frozen once it has ended.

    The learning rate follows the run's epochs in every block, so that parts of 1 throughout are the mode parallel.
    """

    num_blocks: int
    epochs: int
    gate: GateConfig = field(default_factory=GateConfig)
    eval_every: int = 1
    frozen: frozenset[int] = frozenset()

    depends_on_results: ClassVar[bool] = False

    @classmethod
    def of(cls, config: Config, num_blocks: int, cached: bool) -> Self:
        """See :attr:`pipeline.schedules.modes.Mode.schedule`."""
        return cls(num_blocks, config.train.epochs, config.gate, config.train.eval_every)

    @property
    def starts(self) -> list[Fraction]:
        """Of each block: epochs that are over when it starts."""
        return [turn * _exactly(self.gate.delay) for turn in turns_of(self.num_blocks, self.frozen)]

    def plan(self, epoch: int, history: Sequence[EpochResult]) -> Plan | None:
        """See :class:`Schedule`."""
        if epoch >= self.epochs:
            return None
        return Plan(
            epoch, tuple(self._mode(k, epoch - start) for k, start in enumerate(self.starts)),
            lr_epochs=(epoch,) * self.num_blocks,
            evaluate=(epoch + 1) % self.eval_every == 0 or epoch + 1 == self.epochs,
        )  # fmt: skip

    def _mode(self, block: int, since: Fraction) -> BlockMode:
        """Of a block in an epoch. Args: since, epochs from the block's start to the epoch's."""
        if since <= -1:
            return BlockMode.IDLE
        has_ended = self.gate.train_for > 0 and since >= _exactly(self.gate.train_for)
        return BlockMode.FROZEN if block in self.frozen or has_ended else BlockMode.TRAIN


def gated(config: Config, num_blocks: int, cached: bool) -> Schedule:
    """The schedule of the mode ``gated``; see :attr:`pipeline.schedules.modes.Mode.schedule`. Where a gate measures,
    every block trains in every epoch."""
    made: type[Staged | Parallel] = Parallel if config.gate.measures else Staged
    return made.of(config, num_blocks, cached)
