"""Blocks that have come to rest: those whose output has stopped moving learn no more, for good.

With P a block's output at a probe and P' that at the probe before, ``rho = |P - P'| / |P'|`` and its moving average D
as of inputs, a block that has taken steps rests from the first probe on at which ``D < gate.rest``. It then runs
forward in evaluation mode, as a frozen block does: nothing is differentiated, and the optimizer has nothing to step.
Each block decides by its own outputs alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pipeline.config.gate import GateConfig
from pipeline.engine.drift import block_shift, kept, smoothed
from pipeline.learning.rule import LearningRule
from pipeline.numerics.finite import all_finite

__all__ = ["Rest"]

_PREFIX = "rest_"


@dataclass(slots=True)
class _Output:
    """What is known of one block's output."""

    drift: float | None = None
    """None before it was seen twice since the block's first step."""
    last: Tensor | None = None
    """The output at the newest probe."""
    learns: bool = False
    """The block has taken a step."""
    since: int | None = None
    """Steps of the run that were done when the block came to rest."""
    changes: int = 0
    """Of all this: counts up."""


class Rest:
    """Decides for the blocks of a stage.

    Args:
        config: of the gate.
        rules: of the hosted blocks, by block.
    """

    def __init__(self, config: GateConfig, rules: Mapping[int, LearningRule]) -> None:
        self._config, self._rules = config, rules
        self._outputs = {k: _Output() for k in rules}

    def __contains__(self, block: int) -> bool:
        """The block is at rest."""
        return self._outputs[block].since is not None

    def taken(self, block: int, part: float) -> None:
        """A block takes a part of a step."""
        found = self._outputs[block]
        found.learns |= part > 0.0
        found.changes += block in self

    def observe(self, step: int, block: int, out: Tensor) -> None:
        """The probe has passed a block. Args: step, steps that are done; out, the block's output, (samples, ...)."""
        found = self._outputs[block]
        if block in self or not found.learns or not all_finite({block: [out]})[block]:
            return
        found.changes += 1
        if found.last is not None:
            found.drift = float(smoothed(found.drift, block_shift(found.last, out), self._config.memory))
            if found.drift < self._config.rest:
                found.since, found.last = step, None
                return
        found.last = kept(out)

    def settle(self) -> None:
        """Puts the blocks that are at rest into evaluation mode."""
        for k, rule in self._rules.items():
            if k in self:
                rule.eval()

    def since(self, block: int) -> int | None:
        """Steps of the run that were done when the block came to rest; None where it is not."""
        return self._outputs[block].since

    def version(self, block: int) -> int:
        """See :meth:`pipeline.engine.gates.Gate.version`."""
        return self._outputs[block].changes

    def capture(self, block: int) -> dict[str, Any]:
        """See :meth:`pipeline.engine.gates.Gate.capture`; names begin with ``rest_``."""
        found = self._outputs[block]
        values = {"drift": found.drift, "last": found.last, "learns": int(found.learns), "since": found.since}
        return {_PREFIX + name: value for name, value in values.items() if value is not None}

    def restore(self, block: int, state: Mapping[str, Any], device: torch.device) -> None:
        """Puts back what :meth:`capture` returned. Args: device, of the block."""
        own = {name.removeprefix(_PREFIX): value for name, value in state.items() if name.startswith(_PREFIX)}
        last = own.get("last")
        self._outputs[block] = _Output(
            own.get("drift"), None if last is None else last.to(device, copy=True), bool(own.get("learns", 0)),
            own.get("since"),
        )  # fmt: skip
