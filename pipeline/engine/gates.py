"""Gates: the part of its optimizer step that a block takes, from 0 to 1, by what has passed before that step.

Each gate decides for the blocks of a stage one by one, by what a block itself has seen in its own order of work and
never by time: the part is the same on any number of stages.

With D the drift of a block's input (:mod:`pipeline.engine.drift`), a block takes

    G1    g_j = 1 / (1 + (D_j / tau)^2) of the step of column j of the weight that reads axis j, and of everything else
          the mean of g
    G2    1 / (1 + D / tau)
    G4    nothing before D < tau for the first time, then what a wave gives that starts there

The first block's input never moves: it takes whole steps.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from pipeline.config.gate import GateConfig
from pipeline.engine.columns import Columns
from pipeline.engine.drift import Shift, axis_shift, block_shift, columns_of, is_finite, kept, smoothed
from pipeline.engine.rest import Rest
from pipeline.learning.rule import LearningRule
from pipeline.records.reports import GateRow
from pipeline.schedules.wave import Wave

__all__ = ["AxisGate", "BlockGate", "Gate", "MeasuredGate", "TriggeredGate", "WaveGate"]


class Gate(ABC):
    """Decides for the blocks of a stage."""

    watches_outputs = False
    """:meth:`observe_output` is to be called."""

    @abstractmethod
    def part(self, block: int, step: int) -> float:
        """What a block takes of its step ``step`` of the run, counted from 0."""

    @abstractmethod
    def told(self, block: int, epoch: int) -> GateRow:
        """What the scores of a block's epoch say of its gate."""

    def columns(self, block: int) -> Columns | None:
        """A weight whose columns take parts of their own; None where none does."""
        return None

    def begin(self, epoch: int) -> None:
        """An epoch begins, or goes on."""

    def taken(self, block: int, part: float) -> None:
        """A block takes a part of a step."""

    def observe(self, step: int, block: int, x: Tensor) -> None:
        """The probe passes. Args: step, steps that are done; x, the input of a block, (samples, ...)."""

    def observe_output(self, step: int, block: int, out: Tensor) -> None:
        """The probe has passed a block. Args: step, steps that are done; out, its output, (samples, ...)."""

    def rests(self, block: int) -> bool:
        """The block learns no more, for good: it runs forward in evaluation mode."""
        return False

    def version(self, block: int) -> int:
        """Another one where what the next parts depend on has changed without a step."""
        return 0

    def capture(self, block: int) -> dict[str, Any]:
        """What the parts of the next steps depend on, tensors and plain numbers."""
        return {}

    def restore(self, block: int, state: Mapping[str, Any]) -> None:
        """Puts back what :meth:`capture` returned, before the first step."""


class WaveGate(Gate):
    """G3: parts that are known before. Args: wave, of the run."""

    def __init__(self, wave: Wave) -> None:
        self._wave = wave

    def part(self, block: int, step: int) -> float:
        """See :class:`Gate`."""
        return self._wave.part(block, step)

    def told(self, block: int, epoch: int) -> GateRow:
        """See :class:`Gate`."""
        return {"gate": self._wave.mean(block, epoch)}


@dataclass(slots=True)
class _Input:
    """What is known of one block's input, and what the block has made of it."""

    drift: Shift | None
    """None where nothing is known and blocks wait for it."""
    last: Tensor | None = None
    """The input at the newest probe."""
    probes: int = 0
    started: int | None = None
    """Steps that were done when the block started."""
    epoch: int = -1
    """The one that the next two are of."""
    steps: int = 0
    parts: float = 0.0
    """Their sum."""


class MeasuredGate(Gate):
    """A gate that goes by the drift of blocks' inputs.

    Args:
        config: of the gate.
        rules: of the hosted blocks, by block.
        num_steps: of an epoch.
    """

    waits: ClassVar[bool] = False
    """Nothing is done before drift is known, whatever the config says."""

    def __init__(self, config: GateConfig, rules: Mapping[int, LearningRule], num_steps: int) -> None:
        self._config, self._rules = config, rules
        unknown = None if self.waits or config.start == "closed" else 0.0
        self._inputs = {k: _Input(unknown if k > 0 else 0.0) for k in rules}
        self._rest = Rest(config, rules) if config.rest > 0.0 else None
        self.watches_outputs = self._rest is not None

    def shift(self, before: Tensor, now: Tensor) -> Shift:
        """How far an input has moved between two probes."""
        return block_shift(before, now)

    def measured(self, block: int, step: int) -> None:
        """The drift of a block's input is known anew. Args: step, steps that are done."""

    def observe(self, step: int, block: int, x: Tensor) -> None:
        """See :class:`Gate`."""
        if block == 0:
            return
        found = self._inputs[block]
        shift = None if found.last is None else self.shift(found.last, x)
        if not is_finite(x, shift):  # of what is not finite nothing is known
            return
        found.probes += 1
        found.last = kept(x)
        if shift is not None:
            found.drift = smoothed(found.drift, shift, self._config.memory)
            self.measured(block, step)

    def observe_output(self, step: int, block: int, out: Tensor) -> None:
        """See :class:`Gate`."""
        if self._rest is not None:
            self._rest.observe(step, block, out)

    def rests(self, block: int) -> bool:
        """See :class:`Gate`."""
        return self._rest is not None and block in self._rest

    def begin(self, epoch: int) -> None:
        """See :class:`Gate`."""
        for found in self._inputs.values():
            if found.epoch != epoch:
                found.epoch, found.steps, found.parts = epoch, 0, 0.0
        if self._rest is not None:
            self._rest.settle()

    def taken(self, block: int, part: float) -> None:
        """See :class:`Gate`."""
        self._inputs[block].steps += 1
        self._inputs[block].parts += part
        if self._rest is not None:
            self._rest.taken(block, part)

    def told(self, block: int, epoch: int) -> GateRow:
        """See :class:`Gate`."""
        found = self._inputs[block]
        row: GateRow = {} if found.steps == 0 else {"gate": found.parts / found.steps}
        if found.drift is not None:
            row["drift"] = float(found.drift.mean()) if isinstance(found.drift, Tensor) else found.drift
        if self._rest is not None and (since := self._rest.since(block)) is not None:
            row["rests_since"] = since
        return row

    def version(self, block: int) -> int:
        """See :class:`Gate`."""
        return self._inputs[block].probes + (0 if self._rest is None else self._rest.version(block))

    def capture(self, block: int) -> dict[str, Any]:
        """See :class:`Gate`."""
        found = self._inputs[block]
        names = ("drift", "last", "probes", "started", "epoch", "steps", "parts")
        own = {name: value for name in names if (value := getattr(found, name)) is not None}
        return own if self._rest is None else {**own, **self._rest.capture(block)}

    def restore(self, block: int, state: Mapping[str, Any]) -> None:
        """See :class:`Gate`."""
        device = next(self._rules[block].parameters()).device
        if self._rest is not None:
            self._rest.restore(block, state, device)
        for name, value in state.items():
            if hasattr(self._inputs[block], name):
                held = value.to(device, copy=True) if isinstance(value, Tensor) else value
                setattr(self._inputs[block], name, held)


class BlockGate(MeasuredGate):
    """G2: blocks slow down while their inputs move."""

    def part(self, block: int, step: int) -> float:
        """See :class:`Gate`."""
        drift = self._inputs[block].drift
        assert not isinstance(drift, Tensor)
        return 0.0 if drift is None else 1.0 / (1.0 + drift / self._config.tau)


class TriggeredGate(MeasuredGate):
    """G4: a wave that blocks start themselves, each when its input has come to rest."""

    waits = True

    def __init__(self, config: GateConfig, rules: Mapping[int, LearningRule], num_steps: int) -> None:
        super().__init__(config, rules, num_steps)
        self._wave = Wave.of(config, (0,), num_steps)  # of one block, from its own start

    def measured(self, block: int, step: int) -> None:
        """See :class:`MeasuredGate`."""
        found = self._inputs[block]
        assert isinstance(found.drift, float)
        if found.started is None and found.drift < self._config.tau:
            found.started = step

    def part(self, block: int, step: int) -> float:
        """See :class:`Gate`."""
        started = 0 if block == 0 else self._inputs[block].started
        if started is None:
            return 0.0
        return self._wave.part(0, step - started)


class AxisGate(MeasuredGate):
    """G1: blocks learn from each axis of their input as far as it has stopped moving."""

    def __init__(self, config: GateConfig, rules: Mapping[int, LearningRule], num_steps: int) -> None:
        super().__init__(config, rules, num_steps)
        self._readers = {k: columns_of(rule.block, rule.spec.in_shape) for k, rule in rules.items()}
        self._closing: dict[int, tuple[float, Columns | None]] = {}
        """The mean of each block's parts where they are not all 1, and what :meth:`columns` returns."""

    def shift(self, before: Tensor, now: Tensor) -> Shift:
        """See :class:`MeasuredGate`."""
        return axis_shift(before, now)

    def measured(self, block: int, step: int) -> None:
        """See :class:`MeasuredGate`."""
        self._closing.pop(block, None)
        parts, reader = self._parts(block), self._readers[block]
        if parts is None or float(parts.min()) == 1.0:
            return
        columns = None
        if reader is not None:
            weight, shape, repeats = reader
            columns = Columns.of(weight, parts.repeat_interleave(repeats).view(shape).to(weight.dtype))
        self._closing[block] = float(parts.mean()), columns

    def _parts(self, block: int) -> Tensor | None:
        """(axes,); None before they are known."""
        drift = self._inputs[block].drift
        if not isinstance(drift, Tensor):
            return None
        ratio = drift.double() / self._config.tau  # in float64 no tau is 0
        return ratio.square_().add_(1.0).reciprocal_().float()

    def part(self, block: int, step: int) -> float:
        """See :class:`Gate`."""
        if block in self._closing:
            return self._closing[block][0]
        return 0.0 if self._inputs[block].drift is None else 1.0

    def columns(self, block: int) -> Columns | None:
        """See :class:`Gate`."""
        return self._closing[block][1] if block in self._closing else None

    def told(self, block: int, epoch: int) -> GateRow:
        """See :class:`Gate`."""
        row, parts = super().told(block, epoch), self._parts(block)
        if parts is not None:
            row["axes"] = torch.quantile(parts, parts.new_tensor([0.0, 0.5, 1.0])).tolist()
        return row

    def restore(self, block: int, state: Mapping[str, Any]) -> None:
        """See :class:`Gate`."""
        super().restore(block, state)
        self.measured(block, 0)
