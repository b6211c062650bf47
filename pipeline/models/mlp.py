"""Fully connected network: hidden blocks of one linear layer each, and a linear output block.

With batch normalisation and dropout it is the MLP of Nøkland and Eidnes (``rules.md`` 2.4); with
``activation = "mish"``, ``norm = "l2"`` and ``width = [100, 100, 10]`` that of Mertens (``rules.md`` 2.2); with
``activation = "tanh"``, ``norm = "none"`` and ``init = "zero"`` that of direct feedback alignment.
"""

from itertools import pairwise

from pipeline.block import Blueprint
from pipeline.errors import ConfigError
from pipeline.models._layers import Activation, Init, Norm, check_dropout, hidden, output

__all__ = ["build"]

_DEPTH = 3


def build(
    input_shape: tuple[int, ...],
    num_outputs: int,
    *,
    depth: int = _DEPTH,
    width: int | list[int] = 256,
    activation: Activation = "relu",
    norm: Norm = "batch",
    dropout: float = 0.0,
    init: Init = "default",
) -> list[Blueprint]:
    """Blueprints of ``depth`` hidden blocks and the output block.

    Args:
        input_shape: of one sample; flattened in the first block.
        num_outputs: width of the output block.
        depth: number of hidden blocks.
        width: of every hidden block, or a list with one width for each, which sets the depth.
        activation: nonlinearity of the hidden blocks; ``leaky_relu`` has slope 0.01.
        norm: ``batch`` and ``layer`` before the nonlinearity, ``l2`` (every sample to length 1) after it.
        dropout: probability, behind every hidden block.
        init: torch's own; ``zero_output``, in which the output block's weight starts at 0; or ``zero``, in which all
            weights and biases of the linear maps do.

    Raises:
        ConfigError: sizes that make no network, or options that contradict each other.
    """
    check_dropout(dropout)
    if init == "zero" and norm == "l2":
        raise ConfigError(
            "cannot scale all-zero activations to length 1 (given: model.init = 'zero' with model.norm = 'l2'). "
            "Set model.norm to none, batch or layer."
        )
    widths = _widths(depth, width)
    shapes = [input_shape, *((w,) for w in widths)]
    blocks = [
        hidden(shape, out, activation=activation, norm=norm, dropout=dropout, zero=init == "zero")
        for shape, (out,) in pairwise(shapes)
    ]
    return [*blocks, output(shapes[-1], num_outputs, init)]


def _widths(depth: int, width: int | list[int]) -> list[int]:
    """One width for each hidden block."""
    if depth < 0:
        raise ConfigError(f"no network is that deep (given: model.depth = {depth}, expected: at least 0). Change it.")
    widths = width if isinstance(width, list) else [width] * depth
    if len(widths) != depth and depth != _DEPTH:
        raise ConfigError(
            f"the list of widths sets another depth (given: model.depth = {depth}, {len(widths)} in model.width). "
            "Remove model.depth."
        )
    if any(w < 1 for w in widths):
        raise ConfigError(f"no block is that narrow (given: model.width = {width}, expected: at least 1). Change it.")
    return widths
