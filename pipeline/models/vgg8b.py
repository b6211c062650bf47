"""VGG8B: six convolutions and two linear layers, 8.9 million parameters at 32x32 pixels (Nøkland, Eidnes 2019)."""

from typing import Literal

from pipeline.models._activations import ConvActivation
from pipeline.models._vgg import POOL, vgg
from pipeline.network.block import Blueprint

__all__ = ["build"]

_CHANNELS = (128, 256, POOL, 256, 512, POOL, 512, POOL, 512, POOL)


def build(
    input_shape: tuple[int, ...],
    num_outputs: int,
    *,
    width: float = 1.0,
    dropout: float = 0.0,
    activation: ConvActivation = "relu",
    init: Literal["default", "zero_output"] = "default",
) -> list[Blueprint]:
    """Blueprints of eight blocks.

    Args:
        input_shape: (channels, height, width), at least 16 x 16 pixels.
        num_outputs: width of the output block.
        width: multiplies the channels of every convolution; the linear block keeps its 1024 units.
        dropout: probability, of channels behind a convolution and of units behind the linear block.
        activation: nonlinearity; ``leaky_relu`` has slope 0.01.
        init: ``zero_output``: the output block's weight starts at 0, as in the published runs.

    Raises:
        ConfigError: the input is no image or too small, or an option is out of its range.
    """
    return vgg(
        "vgg8b",
        _CHANNELS,
        input_shape,
        num_outputs,
        width=width,
        dropout=dropout,
        activation=activation,
        init=init,
    )
