"""Wire formats in a run: where activations and feedback are rounded, whether a link is there or not.

Rounding is part of the model, so it belongs to a boundary between two blocks and not to a link. Between stages the
program sends codes and decodes them (:class:`WireProgram`); inside a stage the upper block rounds its own input,
:func:`round_inside`. Both give a block the same bits. A block learns from its own activation as it was before it was
rounded, wherever it is; feedback passes a rounding unchanged, as though its derivative were 1.
"""

from collections.abc import Generator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.config import TransportConfig
from pipeline.data.task import Labels, Task
from pipeline.engine.message import Kind, Message
from pipeline.engine.program import Program
from pipeline.engine.requests import Request, Send
from pipeline.engine.stage import Stage
from pipeline.learning.rule import Topology
from pipeline.numerics.wire_format import (
    Wire,
    decode,
    encode,
    label_dtype,
    num_parts,
    pack_feedback,
    rounded,
    unpack_feedback,
)  # fmt: skip
from pipeline.records.time_budget import Activity
from pipeline.resolve import RunSpec
from pipeline.schedules.position import Position

__all__ = ["WireProgram", "Wires", "round_inside", "rounded_input", "wires_between", "wires_of"]

_BATCHES = (Kind.TRAIN, Kind.EVAL, Kind.PROBE)


@dataclass(frozen=True)
class Wires:
    """The wire format of a run."""

    wire: Wire
    cuts: frozenset[int]
    """Blocks whose input is rounded."""
    labels: torch.dtype
    """Of labels on the way, the narrowest that holds them."""
    task_labels: torch.dtype
    """Of labels where they are used."""
    positions: tuple[int, ...] = ()
    """Shape of a sample's positions, which are rounded one by one."""

    def encode(self, x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        """An activation and its labels as they travel."""
        return *encode(x, self.wire, self.positions), y.to(self.labels)

    def decode(self, tensors: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """The activation, rounded, and its labels."""
        count = num_parts(self.wire)
        return decode(tensors[:count], self.wire), tensors[count].to(self.task_labels)

    def rounded(self, x: Tensor) -> Tensor:
        """An activation as it arrives."""
        return rounded(x, self.wire, self.positions)

    def passed(self, block: int, x: Tensor) -> Tensor:
        """The input of ``block`` as it arrives, with the graph of ``x`` as though it had not been rounded."""
        return self.rounded(x.detach()) + (x - x.detach()) if block in self.cuts else x


def wires_of(resolved: RunSpec) -> Wires | None:
    """The wire format of a run; None where nothing is rounded."""
    return wires_between(resolved.config.transport, resolved.num_blocks, resolved.data.task)


def wires_between(transport: TransportConfig, num_blocks: int, task: Task) -> Wires | None:
    """The wire format of so many blocks; see :func:`wires_of`."""
    if transport.wire == "same":
        return None
    cuts = frozenset(transport.wire_at or range(1, num_blocks))
    numbers = task.labels is Labels.NUMBERS
    narrow = task.label_dtype if numbers else label_dtype(max(task.num_outputs, 2))
    return Wires(transport.wire, cuts, narrow, task.label_dtype, task.positions)


def round_inside(stage: Stage, wires: Wires) -> None:
    """Rounds the inputs of a stage's blocks, but for its first: that comes over a link, or is the data."""
    inner = wires.cuts & set(stage.blocks[1:])
    for k in inner:
        stage.rules[k].register_forward_pre_hook(partial(rounded_input, wires))
    if inner and _rounds_feedback(stage):
        stage.round_feedback = partial(_rounded_feedback, wires.wire, inner)


def rounded_input(wires: Wires, _: nn.Module, arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """A rule's arguments, its block's input rounded."""
    x, *others = arguments
    return wires.rounded(x), *others


def _rounded_feedback(
    wire: Wire, inner: frozenset[int], block: int, tensors: tuple[Tensor, ...]
) -> tuple[Tensor, ...]:
    """Feedback of ``block`` for the one below, as it would arrive over a link."""
    return unpack_feedback(pack_feedback(tensors, wire), wire) if block in inner else tensors


def _rounds_feedback(stage: Stage) -> bool:
    """The rule allows it."""
    return stage.topology is Topology.NEIGHBOUR and all(rule.rounds_feedback for rule in stage.rules.values())


class WireProgram(Program):
    """A program whose messages between stages travel in a wire format. A class of its own, so that one that sends
    what it has does nothing for it.

    Encoding and decoding are done by the stage's own thread and booked as transfer.

    Args:
        wires: the format.
        stage: its inner boundaries round already, see :func:`round_inside`.
        arguments, options: see :class:`Program`.
    """

    def __init__(self, wires: Wires, stage: Stage, *arguments: Any, **options: Any) -> None:
        super().__init__(stage, *arguments, **options)
        self._wires = wires
        self._below, self._above = stage.blocks.start in wires.cuts, stage.blocks.stop in wires.cuts
        self._feedback = _rounds_feedback(stage)

    def _send(
        self, dst: int, kind: Kind, position: Position, tensors: tuple[Tensor, ...], weight: float = 1.0
    ) -> Send:
        """See :class:`Program`."""
        if kind in _BATCHES and self._above:
            self.budget.enter(Activity.TRANSFER)
            tensors = self._wires.encode(*tensors)
        elif kind is Kind.FEEDBACK and self._feedback and self._below:
            self.budget.enter(Activity.TRANSFER)
            tensors = pack_feedback(tensors, self._wires.wire)
        return super()._send(dst, kind, position, tensors, weight)

    def _receive(self, src: int, kind: Kind, position: Position) -> Generator[Request, Any, Message]:
        """See :class:`Program`."""
        message = yield from super()._receive(src, kind, position)
        if kind in _BATCHES and self._below:
            self.budget.enter(Activity.TRANSFER)
            message.tensors = self._wires.decode(message.tensors)
        elif kind is Kind.FEEDBACK and self._feedback and self._above:
            self.budget.enter(Activity.TRANSFER)
            message.tensors = unpack_feedback(message.tensors, self._wires.wire)
        return message
