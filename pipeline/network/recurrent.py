"""A recurrent layer of torch, and the state that it carries from one chunk of a sequence to the next."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

__all__ = ["UNITS", "Carried", "Cell", "Edges", "LastStep", "Recurrent", "Unit", "Weights", "carried_in", "elman_steps"]

Cell = Literal["elman", "lstm", "gru"]
Unit = Literal["tanh", "relu", "linear"]
_CELLS: dict[str, type[nn.RNN] | type[nn.LSTM] | type[nn.GRU]] = {"elman": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}
UNITS: dict[str, type[nn.Module]] = {"tanh": nn.Tanh, "relu": nn.ReLU, "linear": nn.Identity}
"""Of Elman cells."""


@dataclass(frozen=True)
class _Chunk:
    """The chunk that is about to run forward."""

    trains: bool
    rows: slice
    """Of the batch."""
    num_rows: int
    """Of the whole batch."""
    is_start: bool
    is_end: bool


@dataclass(frozen=True)
class Edges:
    """The states at both edges of a chunk."""

    start: Tensor | None
    """A leaf of the graph, (rows, parts, width); None where a sequence begins."""
    end: Tensor
    """Of the same shape, with its graph."""
    is_end: bool
    """Of the sequence: nothing follows."""


class Carried:
    """The state behind the newest chunk of each row of a batch, without a graph, in training and in evaluation apart.

    It is no buffer: weights have none of it. Only a chunk that was announced by :meth:`announce` reads and writes it;
    whatever else runs the layer, a measurement or a second pass of a rule, starts from zeros and leaves it alone.

    Args:
        size: numbers of a row's state.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._kept: dict[bool, Tensor] = {}
        self._chunk: _Chunk | None = None
        self.records = False
        """The edges of each pass with a graph are noted, for a rule that sends an error over them."""
        self.edges: Edges | None = None
        """Of the newest of these."""

    def announce(self, *, trains: bool, rows: slice, num_rows: int, is_start: bool, is_end: bool) -> None:
        """The next pass of the layer is about a chunk.

        Args:
            trains: of a training sequence.
            rows: of the batch that the micro-batch has.
            num_rows: of the whole batch.
            is_start: of its sequence: the state before it is zeros.
            is_end: of its sequence.
        """
        self._chunk = _Chunk(trains, rows, num_rows, is_start, is_end)

    def before(self) -> Tensor | None:
        """The state that the next pass starts from, (rows, parts, width); None for zeros."""
        chunk = self._chunk
        if chunk is None or chunk.is_start or chunk.trains not in self._kept:
            return None
        state = self._kept[chunk.trains][chunk.rows].clone()
        return state.requires_grad_() if self.records and torch.is_grad_enabled() else state

    def keep(self, start: Tensor | None, state: Tensor) -> None:
        """A pass has been made. Args: start, from :meth:`before`; state, behind it, (rows, parts, width)."""
        chunk, self._chunk = self._chunk, None
        if self.records and torch.is_grad_enabled():
            self.edges = Edges(start, state, chunk is None or chunk.is_end)
        if chunk is None:
            return
        kept = self._kept.get(chunk.trains)
        if kept is None or len(kept) < chunk.num_rows or kept.dtype != state.dtype:
            kept = self._kept[chunk.trains] = state.new_zeros(chunk.num_rows, *state.shape[1:])
        kept[chunk.rows] = state.detach()

    @property
    def begins(self) -> bool:
        """The next pass is about the first chunk of its sequence."""
        return self._chunk is not None and self._chunk.is_start

    @property
    def state(self) -> Tensor | None:
        """That of training, (rows, parts, width), not copied; None before there is one."""
        return self._kept.get(True)

    @state.setter
    def state(self, value: Tensor | None) -> None:
        self._kept.pop(True, None)
        if value is not None:
            self._kept[True] = value


class Weights(NamedTuple):
    """Parameters of a recurrent layer."""

    input: nn.Parameter
    """W, (gates * width, num_in)."""
    recurrent: nn.Parameter
    """V, (gates * width, width)."""
    biases: tuple[nn.Parameter, ...]
    """Both, (gates * width,), or none."""


class Recurrent(nn.Module):
    """A recurrent layer of torch, its units at every step.

    Args:
        cell: ``elman``, ``lstm`` or ``gru``.
        num_in: features of a step.
        width: units.
        unit: of an Elman cell; the others have their own.
        bias: False leaves both biases out.
        truncate: steps behind which no gradient goes back, counted from the start of the chunk; 0 for none.
        radius: the recurrent weights start as an orthogonal matrix times this (one for each gate); 0: as torch does.
        is_half: an Elman layer sends its pre-activations, and the block above begins with its unit.
    """

    def __init__(
        self, cell: Cell, num_in: int, width: int, *, unit: Unit = "tanh", bias: bool = True, truncate: int = 0,
        radius: float = 0.0, is_half: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        options = {"nonlinearity": "relu"} if cell == "elman" and unit == "relu" else {}
        self.layer: nn.RNNBase = _CELLS[cell](num_in, width, batch_first=True, bias=bias, **options)
        self.cell, self.truncate, self.is_half = cell, truncate, is_half
        self.unit: nn.Module = UNITS[unit]()
        self.carried = Carried(2 * width if cell == "lstm" else width)
        if radius:
            with torch.no_grad():
                for gate in torch.split(self.weights().recurrent, width):
                    gate.copy_(nn.init.orthogonal_(torch.empty(width, width)) * radius)

    def weights(self) -> "Weights":
        """The layer's parameters by their part."""
        table = dict(self.layer.named_parameters())
        biases = tuple(p for name, p in table.items() if name.startswith("bias"))
        return Weights(table["weight_ih_l0"], table["weight_hh_l0"], biases)

    def recurrent_parameters(self) -> tuple[nn.Parameter, ...]:
        """The recurrent weights, and their bias."""
        return tuple(p for name, p in self.layer.named_parameters() if "_hh_" in name)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, length, num_in) to (batch, length, width)."""
        start = self.carried.before()
        parts = torch.split(x, self.truncate or x.shape[1], 1)
        out, state = self._run(parts[0], start)
        outs = [out]
        for part in parts[1:]:
            out, state = self._run(part, state.detach())
            outs.append(out)
        self.carried.keep(start, state)
        # torch lays steps outermost, and a product may round one layout differently from the one that a message has.
        return outs[0].contiguous() if len(outs) == 1 else torch.cat(outs, 1).contiguous()

    def _run(self, x: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
        """Args: state, (batch, parts, width). Returns: what is sent of every step, and the state behind the last."""
        if self.cell == "elman" and (self.is_half or isinstance(self.unit, nn.Identity)):
            h, units = elman_steps(self, x, None if state is None else state[:, 0])
            return h if self.is_half else units[:, 1:], units[:, -1:]
        parts = () if state is None else tuple(part.contiguous() for part in state.movedim(1, 0).unsqueeze(1))
        start = None if state is None else (parts if self.cell == "lstm" else parts[0])
        out, end = self.layer(x, start)
        return out, torch.stack([part[0] for part in (end if self.cell == "lstm" else (end,))], 1)


class LastStep(nn.Module):
    """The last of all steps."""

    def forward(self, x: Tensor) -> Tensor:
        """(batch, length, width) to (batch, width)."""
        return x[:, -1]


def elman_steps(layer: Recurrent, x: Tensor, start: Tensor | None) -> tuple[Tensor, Tensor]:
    """An Elman cell step by step, with a graph where one is recorded.

    Args:
        layer: of the cell ``elman``.
        x: (batch, length, num_in).
        start: the state before the first step, (batch, width); None for zeros.

    Returns:
        ``h_t = W x_t + V z_(t-1) + b``, (batch, length, width), and ``z_0 ... z_length``, (batch, length + 1, width).
    """
    weights = layer.weights()
    bias = weights.biases[0] + weights.biases[1] if weights.biases else None
    driven = nn.functional.linear(x, weights.input, bias)
    z = driven.new_zeros(len(x), driven.shape[2]) if start is None else start
    recurrent = weights.recurrent.t()
    hs, zs = [], [z]
    for drive in driven.unbind(1):
        h = torch.addmm(drive, z, recurrent)
        z = layer.unit(h)
        hs.append(h)
        zs.append(z)
    return torch.stack(hs, 1), torch.stack(zs, 1)


def carried_in(module: nn.Module) -> Iterator[tuple[str, Carried]]:
    """What the recurrent layers of a module carry, by their names in it."""
    for name, part in module.named_modules():
        if isinstance(part, Recurrent):
            yield name, part.carried
