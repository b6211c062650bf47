"""VGG-like networks whose every convolution is one block.

Source: Nøkland and Eidnes 2019, *Training Neural Networks with Local Error Signals*, arXiv 1901.06656, and its
published code, which has the sizes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pipeline.errors import ConfigError
from pipeline.models._activations import ConvActivation, Unit
from pipeline.models._init import Initial
from pipeline.models._layers import check_dropout, conv, hidden, output
from pipeline.network.block import Blueprint
from pipeline.ranges import MOST_COUNTED, Range

__all__ = ["POOL", "VggOptions", "vgg"]

POOL = 0
"""Stands in a list of channels for 2 x 2 max-pooling after the convolution before it."""

_LARGE = 64
"""Inputs with more pixels than this along an edge begin with a 7 x 7 convolution of stride 2."""


@dataclass(frozen=True)
class VggOptions:
    """Options of the VGG-like models."""

    width: Annotated[float, Range(0, 1000, above=True)] = 1.0
    """Factor on the channels of every convolution; not on the linear blocks."""
    linear_depth: Annotated[int, Range(0, 1000)] = 1
    """Hidden linear blocks behind the convolutions."""
    linear_width: Annotated[int, Range(1, MOST_COUNTED)] = 1024
    """Units of each of them."""
    dropout: Annotated[float, Range(0, 1, below=True)] = 0.0
    """Probability of dropping a channel behind a convolution, or a unit behind a linear block."""
    activation: ConvActivation = "relu"
    """Nonlinearity; ``leaky_relu`` has slope 0.01."""
    init: Literal["default", "zero_output"] = "default"
    """``zero_output``: the output block's weight starts at 0, as in the published runs."""


def vgg(
    name: str, channels: Sequence[int], input_shape: tuple[int, ...], num_outputs: int, options: VggOptions
) -> list[Blueprint]:
    """Convolutional blocks for ``channels``, the hidden linear blocks, and the output block.

    Args:
        name: name of the model, for error messages.
        channels: channels of each convolution at ``width`` 1, ``POOL`` between them.
        input_shape: (channels, height, width), at least 16 x 16 pixels for four pools.
        num_outputs: width of the output block.
        options: see :class:`VggOptions`.

    Raises:
        ConfigError: the input is no image or too small to be pooled, or an option is out of its range.
    """
    check_dropout(options.dropout)
    in_channels, height, breadth = _check_input(name, channels, input_shape)
    widths = [_scaled(c, options.width) for c in channels]
    large = max(height, breadth) > _LARGE
    blocks: list[Blueprint] = []
    for i, out_channels in enumerate(widths):
        if out_channels == POOL:
            continue
        first = large and not blocks
        pool = widths[i + 1 : i + 2] == [POOL]
        blocks.append(
            conv(
                (in_channels, out_channels),
                activation=options.activation,
                dropout=options.dropout,
                pool=pool,
                kernel=7 if first else 3,
                stride=2 if first else 1,
            )
        )
        in_channels = out_channels
    features: tuple[int, ...] = (in_channels, *_map_size(channels, height, breadth))
    for _ in range(options.linear_depth):
        blocks.append(hidden(features, options.linear_width, unit=Unit(options.activation), dropout=options.dropout))
        features = (options.linear_width,)
    return [*blocks, output(features, num_outputs, Initial(options.init))]


def _scaled(channels: int, width: float) -> int:
    """``channels`` times the multiplier, rounded, ``POOL`` left as it is."""
    scaled = round(channels * width)
    if channels != POOL and scaled < 1:
        raise ConfigError(
            f"a convolution needs at least one channel (given: model.width = {width}, expected: a multiplier "
            f"above 0 that leaves at least one of {channels} channels). Raise model.width."
        )
    return scaled


def _map_size(channels: Sequence[int], height: int, breadth: int) -> tuple[int, int]:
    """Height and width of the last map: pooling drops an odd row or column, as torch's default does."""
    if max(height, breadth) > _LARGE:
        height, breadth = (height + 1) // 2, (breadth + 1) // 2
    pools = list(channels).count(POOL)
    return height >> pools, breadth >> pools


def _check_input(name: str, channels: Sequence[int], input_shape: tuple[int, ...]) -> tuple[int, int, int]:
    """``input_shape`` as three numbers."""
    if len(input_shape) != 3:
        raise ConfigError(
            f"{name} reads images (given: samples of shape {input_shape}, expected: channels, height, width). "
            "Choose another model, or a data set of images."
        )
    in_channels, height, breadth = input_shape
    if 0 in _map_size(channels, height, breadth):
        smallest = 2 ** list(channels).count(POOL)
        raise ConfigError(
            f"{name} needs larger images (given: images of {height} x {breadth}, expected: at least "
            f"{smallest} x {smallest}). Choose another model, or larger images."
        )
    return in_channels, height, breadth
