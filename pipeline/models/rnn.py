"""Recurrent network: blocks of one recurrent layer each, the whole recurrence inside its block, and a read-out."""

from dataclasses import dataclass
from functools import partial
from typing import Annotated, Literal

from torch import nn

from pipeline.errors import ConfigError
from pipeline.network.block import Block, Blueprint
from pipeline.network.recurrent import UNITS, Cell, LastStep, Recurrent, Unit
from pipeline.ranges import Count, Natural, NonNegative, Range

__all__ = ["build"]


@dataclass(frozen=True)
class LayerOptions:
    """Options of a recurrent layer."""

    unit: Unit = "tanh"
    """Of Elman cells; the others have their own."""
    bias: bool = True
    """False leaves its biases out."""
    radius: NonNegative = 0.0
    """Recurrent weights start as an orthogonal matrix times this, one for each gate; 0: as torch does."""
    truncate: Natural = 0
    """Steps of a sample behind which no gradient goes back; 0 for none, 1 for the present step alone."""
    trains: Literal["all", "inputs", "none"] = "all"
    """``inputs``, with fixed recurrent weights; ``none``, a fixed recurrent layer with its embedding (an echo state
    network): the read-out alone learns."""


def build(
    input_shape: tuple[int, ...],
    num_outputs: int,
    *,
    cell: Cell = "elman",
    depth: Annotated[int, Range(1, 1000)] = 1,
    width: Count = 128,
    reads: Literal["each", "last"] = "each",
    vocabulary: Natural = 0,
    embedding: Count = 32,
    boundary: Literal["post", "half"] = "post",
    layer: LayerOptions = LayerOptions(),
) -> list[Blueprint]:
    """Blueprints of ``depth`` recurrent blocks and the read-out.

    A block runs over the whole sequence and sends its units at every step. It starts from a state of zeros; where the
    data set cuts sequences into chunks, from the state behind the chunk before. No gradient leaves a chunk. Inside it
    gradients go back through ``truncate`` steps, whatever the rule; what reaches a block from outside is the rule's.

    Args:
        input_shape: ``(length, features)``, or ``(length,)`` of tokens.
        num_outputs: width of the read-out.
        cell: ``elman`` (tanh), ``lstm`` or ``gru``, each as torch has it.
        depth: recurrent blocks.
        width: units of each.
        reads: the read-out is at ``each`` step, or of the ``last`` one alone, for one label for each sample.
        vocabulary: different tokens; 0: as many as outputs.
        embedding: features of a token.
        boundary: ``half``: an Elman block sends its pre-activations, and the read-out begins with its unit.
        layer: options of every recurrent layer.

    Raises:
        ConfigError: samples are no sequences, or a unit or a boundary is named that the network does not have.
    """
    _check(input_shape, cell, depth, boundary, layer.unit)
    tokens = vocabulary or num_outputs if len(input_shape) == 1 else 0
    first = embedding if tokens else input_shape[1]
    half = boundary == "half"
    make = partial(_make, cell, layer, half)
    blocks = [
        Blueprint(partial(make, width if k else first, width, 0 if k else tokens), f"{cell} {width}")
        for k in range(depth)
    ]
    read_out = partial(_make_read_out, width, num_outputs, reads, layer.unit if half else None)
    return [*blocks, Blueprint(read_out, f"linear {width}-{num_outputs}")]


def _check(input_shape: tuple[int, ...], cell: Cell, depth: int, boundary: str, unit: Unit) -> None:
    """Raises ConfigError, see :func:`build`."""
    if len(input_shape) not in (1, 2):
        raise ConfigError(
            f"a recurrent network reads sequences (given: samples of shape {input_shape}, expected: (length, features) "
            "as of mnist_rows and sine, or (length,) of tokens as of text and delayed_copy). Choose another model or "
            "data set."
        )
    if unit != "tanh" and cell != "elman":
        raise ConfigError(
            f"the cell has units of its own (given: model.unit = {unit!r} with model.cell = {cell!r}, expected: tanh). "
            "Leave model.unit out, or set model.cell to 'elman'."
        )
    if boundary == "half" and (cell != "elman" or depth > 1):
        raise ConfigError(
            f"only one Elman block can send its pre-activations (given: model.boundary = 'half' with model.cell = "
            f"{cell!r} and model.depth = {depth}, expected: elman and 1). Change them, or leave model.boundary out."
        )


def _make(cell: Cell, options: LayerOptions, is_half: bool, num_in: int, width: int, num_tokens: int) -> Block:
    layers: list[nn.Module] = [nn.Embedding(num_tokens, num_in)] if num_tokens else []
    recurrent = Recurrent(
        cell, num_in, width, unit=options.unit, bias=options.bias, truncate=options.truncate, radius=options.radius,
        is_half=is_half,
    )  # fmt: skip
    block = Block(nn.Sequential(*layers, recurrent))
    fixed = {"all": (), "inputs": recurrent.recurrent_parameters(), "none": tuple(block.parameters())}[options.trains]
    for parameter in fixed:
        parameter.requires_grad_(False)
    return block


def _make_read_out(width: int, num_outputs: int, reads: str, unit: Unit | None) -> Block:
    layers: list[nn.Module] = [LastStep()] if reads == "last" else []
    layers += [] if unit is None else [UNITS[unit]()]
    return Block(nn.Sequential(*layers, nn.Linear(width, num_outputs)))
