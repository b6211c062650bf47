"""LeNet-5: two 5x5 convolutions of 6 and 16 channels, each with 2x2 max-pooling, and layers of 120, 84 and the outputs.

Source: LeCun, Bottou, Bengio and Haffner, "Gradient-Based Learning Applied to Document Recognition" (1998), in the form
in use today: rectifiers, max-pooling, all channels connected, no padding.
"""

from functools import partial
from math import prod
from typing import Literal

from torch import nn

from pipeline.errors import ConfigError
from pipeline.models._activations import ConvActivation, Unit
from pipeline.models._layers import MaxPool
from pipeline.network.block import Block, Blueprint

__all__ = ["build"]

_SMALLEST = 16
_KERNEL = 5


def build(
    input_shape: tuple[int, ...],
    num_outputs: int,
    *,
    activation: ConvActivation = "relu",
    boundary: Literal["post", "half"] = "post",
) -> list[Blueprint]:
    """Blueprints of five blocks.

    Args:
        input_shape: (channels, height, width), at least 16 x 16 pixels.
        num_outputs: width of the last block.
        activation: unit behind every layer but the last.
        boundary: blocks meet behind the unit and its pooling, or in front of the unit: convolutions and linear maps are
            then what is sent, and a block begins with the unit and the pooling below.

    Raises:
        ConfigError: the input is no image, or too small.
    """
    if len(input_shape) != 3 or min(input_shape[1:]) < _SMALLEST:
        raise ConfigError(
            f"lenet5 reads images (given: samples of shape {input_shape}, expected: channels, height, width, at least "
            f"{_SMALLEST} x {_SMALLEST}). Choose another model, or larger images."
        )
    maps = 16, *(((n - _KERNEL + 1) // 2 - _KERNEL + 1) // 2 for n in input_shape[1:])
    sizes: list[tuple[int, int]] = [(input_shape[0], 6), (6, 16), (prod(maps), 120), (120, 84), (84, num_outputs)]
    unit = Unit(activation)
    kinds = ["conv", "conv", "linear", "linear", "linear"]
    return [
        Blueprint(partial(_make, k, size, unit, boundary == "half"), f"{kind} {size[0]}-{size[1]}")
        for k, (kind, size) in enumerate(zip(kinds, sizes, strict=True))
    ]


def _make(index: int, size: tuple[int, int], unit: Unit, half: bool) -> Block:
    """The block of one layer; layers 0 and 1 are convolutions."""
    affine = nn.Conv2d(*size, _KERNEL) if index < 2 else nn.Linear(*size)
    front: list[nn.Module] = [nn.Flatten()] if index == 2 else []
    if half:
        below = [] if index == 0 else [*unit.layers().values(), *_pool(index - 1)]
        return Block(nn.Sequential(*below, *front, affine))
    if index == 4:
        return Block(nn.Sequential(affine))
    pool = _pool(index)
    return Block(nn.Sequential(*front, affine, *unit.layers().values()), pool[0] if pool else None)


def _pool(index: int) -> list[nn.Module]:
    """What follows the unit of a layer."""
    return [MaxPool()] if index < 2 else []
