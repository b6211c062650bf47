"""Fully connected network: hidden blocks of one linear layer each, and a linear output block.

With batch normalisation and dropout it is the MLP of Nøkland and Eidnes; with ``activation = "mish"``, ``norm = "l2"``
and ``width = [100, 100, 10]`` that of Mertens; with ``activation = "tanh"``, ``norm = "none"`` and ``init = "zero"``
that of direct feedback alignment.
"""

from itertools import pairwise
from typing import Annotated, Literal

from pipeline.errors import ConfigError
from pipeline.models._activations import Activation, Unit, units_of
from pipeline.models._init import Init, Initial
from pipeline.models._layers import Norm, check_dropout, half_layer, hidden, output
from pipeline.network.block import Blueprint
from pipeline.ranges import Count, NonNegative, Range

__all__ = ["build"]

_DEPTH = 3


def build(
    input_shape: tuple[int, ...],
    num_outputs: int,
    *,
    depth: Annotated[int, Range(0, 1000)] = _DEPTH,
    width: Count | list[Count] = 256,
    activation: Activation | list[Activation] = "relu",
    norm: Norm = "batch",
    dropout: Annotated[float, Range(0, 1, below=True)] = 0.0,
    group: Count = 4,
    init: Init = "default",
    init_std: NonNegative | None = None,
    boundary: Literal["post", "half"] = "post",
) -> list[Blueprint]:
    """Blueprints of ``depth`` hidden blocks and the output block.

    Args:
        input_shape: shape of one sample; flattened in the first block.
        num_outputs: width of the output block.
        depth: number of hidden blocks.
        width: units of every hidden block, or a list with one width for each, which sets the depth.
        activation: nonlinearity of all hidden blocks, or a list with one for each, see :data:`Activation`.
        norm: ``batch`` and ``layer`` before the nonlinearity, ``l2`` (every sample to length 1) after it.
        dropout: probability, behind every hidden block.
        group: units in a group of ``lwta`` and ``slwta``; divides every width.
        init: torch's own; ``zero_output``, in which the output block's weight starts at 0; or, with biases that
            start at 0: ``zero``, ``normal`` with standard deviation ``init_std``, ``xavier`` (uniform),
            ``orthogonal``, and ``fan_in`` (uniform in +-1/sqrt(fan-in), which is torch's own with such biases).
        init_std: standard deviation of ``normal`` weights.
        boundary: where blocks meet: ``post``, behind the nonlinearity; or ``half``, in front of it, so that a block
            begins with the nonlinearity of the one below, sends its pre-activation on, and knows what stands ahead.

    Raises:
        ConfigError: a size is out of range, or options contradict each other.
    """
    check_dropout(dropout)
    initial = Initial(init, init_std)
    _check_norm(norm, initial, boundary, dropout)
    shapes = [input_shape, *((w,) for w in _widths(depth, width))]
    units = units_of(activation, len(shapes) - 1, group)
    if boundary == "half":
        return _half_blocks(shapes, num_outputs, units, initial)
    pairs = zip(units, pairwise(shapes), strict=True)
    blocks = [hidden(a, b, unit=unit, norm=norm, dropout=dropout, init=initial) for unit, (a, (b,)) in pairs]
    return [*blocks, output(shapes[-1], num_outputs, initial)]


def _half_blocks(shapes: list[tuple[int, ...]], num_outputs: int, units: list[Unit], init: Initial) -> list[Blueprint]:
    """Blocks that begin with the nonlinearity of the one below and send their pre-activation on."""
    below = [None, *units]
    blocks = [
        half_layer(shape, out, below=below[k], ahead=units[k], init=init)
        for k, (shape, (out,)) in enumerate(pairwise(shapes))
    ]
    return [*blocks, half_layer(shapes[-1], num_outputs, below=below[-1], init=init, is_output=True)]


def _check_norm(norm: Norm, init: Initial, boundary: str, dropout: float) -> None:
    """Refuses a normalisation that the initial weights or the boundary do not allow."""
    if init.is_zero and norm == "l2":
        raise ConfigError(
            "cannot scale all-zero activations to length 1 (given: weights that start at 0 with model.norm = 'l2'). "
            "Set model.norm to none, batch or layer."
        )
    if boundary == "half" and (norm != "none" or dropout):
        raise ConfigError(
            f"nothing may stand between a pre-activation and its nonlinearity (given: model.boundary = 'half' with "
            f"model.norm = {norm!r}, model.dropout = {dropout}; expected: 'none', 0). Change these, or the boundary."
        )


def _widths(depth: int, width: int | list[int]) -> list[int]:
    """Width of each hidden block."""
    if depth < 0:
        raise ConfigError(f"the depth is out of range (given: model.depth = {depth}, expected: at least 0). Change it.")
    widths = width if isinstance(width, list) else [width] * depth
    if len(widths) != depth and depth != _DEPTH:
        raise ConfigError(
            f"the list of widths sets another depth (given: model.depth = {depth}, {len(widths)} in model.width). "
            "Remove model.depth."
        )
    if any(w < 1 for w in widths):
        raise ConfigError(f"a block needs a unit (given: model.width = {width}, expected: at least 1). Change it.")
    return widths
