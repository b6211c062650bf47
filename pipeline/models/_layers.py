"""The blocks that the models are made of, as picklable functions.

The body is convolution or linear map, normalisation, nonlinearity; dropout and max-pooling are the outlet, because
local losses read what stands before them (``rules.md`` 2.4). No layer works in place: a rule keeps the body's output
while the next block is already reading it.
"""

from collections import OrderedDict
from functools import partial
from math import prod
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.block import Block, Blueprint
from pipeline.errors import ConfigError

__all__ = ["Activation", "Init", "L2Normalise", "MaxPool", "Norm", "check_dropout", "conv", "hidden", "output"]

Activation = Literal["relu", "leaky_relu", "tanh", "sigmoid", "mish", "gelu", "silu"]
Norm = Literal["none", "batch", "layer", "l2"]
Init = Literal["default", "zero_output", "zero"]

_ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,  # slope 0.01, torch's default and that of the published runs
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "mish": nn.Mish,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
}


class MaxPool(nn.MaxPool2d):
    """2 x 2 max-pooling with stride 2.

    Where no gradient is wanted, as behind a block with a local loss, nobody needs to know which of the four it was.
    Two maxima over views take a thirtieth of the time of torch's own kernel, which notes the place of each.
    """

    def __init__(self) -> None:
        super().__init__(2)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, height, width) to half the height and width, rounded down."""
        batch, channels, height, width = x.shape
        if (torch.is_grad_enabled() and x.requires_grad) or height % 2 or width % 2 or not x.is_contiguous():
            pooled: Tensor = super().forward(x)
            return pooled
        rows = x.view(batch, channels, height // 2, 2, width)
        rows = torch.maximum(rows[:, :, :, 0], rows[:, :, :, 1])
        return torch.maximum(rows[..., 0::2], rows[..., 1::2])


class L2Normalise(nn.Module):
    """Scales every sample to Euclidean length 1; a sample of zeros stays one."""

    def forward(self, x: Tensor) -> Tensor:
        """(batch, features) to the same shape."""
        return F.normalize(x, dim=1)


def check_dropout(dropout: float) -> None:
    """Raises ConfigError unless ``dropout`` is a probability below 1."""
    if not 0.0 <= dropout < 1.0:
        raise ConfigError(
            f"cannot drop that share of units (given: model.dropout = {dropout}, expected: at least 0, below 1). "
            "Change it."
        )


def hidden(
    in_shape: tuple[int, ...],
    width: int,
    *,
    activation: Activation = "relu",
    norm: Norm = "batch",
    dropout: float = 0.0,
    zero: bool = False,
) -> Blueprint:
    """A hidden linear block.

    Args:
        in_shape: of one sample; anything but a vector is flattened inside the body.
        width: number of units.
        activation: nonlinearity.
        norm: ``l2`` stands after the nonlinearity, the others before it.
        dropout: probability, in the outlet.
        zero: weights and biases start at 0.
    """
    make = partial(_make_hidden, in_shape, width, activation, norm, dropout, zero)
    return Blueprint(make, f"linear {prod(in_shape)}-{width}")


def output(in_shape: tuple[int, ...], num_outputs: int, init: Init = "default") -> Blueprint:
    """The last block: a linear map, nothing after it. ``zero_output`` clears its weight, ``zero`` its bias too."""
    return Blueprint(partial(_make_output, in_shape, num_outputs, init), f"linear {prod(in_shape)}-{num_outputs}")


def conv(
    channels: tuple[int, int],
    *,
    activation: Activation = "relu",
    dropout: float = 0.0,
    pool: bool = False,
    kernel: int = 3,
    stride: int = 1,
) -> Blueprint:
    """A convolutional block, padded so that only ``stride`` and ``pool`` change the size of the map.

    Args:
        channels: in and out.
        activation: nonlinearity.
        dropout: probability that a whole channel is dropped, in the outlet.
        pool: whether 2 x 2 max-pooling ends the outlet.
        kernel: edge of the kernel in pixels, odd.
        stride: in pixels.
    """
    make = partial(_make_conv, channels, activation, dropout, pool, kernel, stride)
    return Blueprint(make, f"conv {channels[0]}-{channels[1]}" + (" pool" if pool else ""))


def _make_hidden(
    in_shape: tuple[int, ...], width: int, activation: Activation, norm: Norm, dropout: float, zero: bool
) -> Block:
    body, linear = _linear(in_shape, width)
    if zero:
        _clear(linear.weight, linear.bias)
    if norm == "batch":
        body["norm"] = nn.BatchNorm1d(width)
    elif norm == "layer":
        body["norm"] = nn.LayerNorm(width)
    body["activation"] = _ACTIVATIONS[activation]()
    if norm == "l2":
        body["norm"] = L2Normalise()
    return Block(nn.Sequential(body), nn.Dropout(dropout) if dropout else None)


def _make_output(in_shape: tuple[int, ...], num_outputs: int, init: Init) -> Block:
    body, linear = _linear(in_shape, num_outputs)
    if init != "default":
        _clear(linear.weight)
    if init == "zero":
        _clear(linear.bias)
    return Block(nn.Sequential(body))


def _make_conv(
    channels: tuple[int, int], activation: Activation, dropout: float, pool: bool, kernel: int, stride: int
) -> Block:
    body = OrderedDict[str, nn.Module](
        conv=nn.Conv2d(*channels, kernel, stride, padding=kernel // 2),
        norm=nn.BatchNorm2d(channels[1]),
        activation=_ACTIVATIONS[activation](),
    )
    outlet: list[nn.Module] = [nn.Dropout2d(dropout)] if dropout else []
    if pool:
        outlet.append(MaxPool())
    return Block(nn.Sequential(body), nn.Sequential(*outlet) if outlet else None)


def _linear(in_shape: tuple[int, ...], width: int) -> tuple[OrderedDict[str, nn.Module], nn.Linear]:
    """The layers of a linear map over flattened samples, named for the state dict; and the map."""
    linear = nn.Linear(prod(in_shape), width)
    flatten = {"flatten": nn.Flatten()} if len(in_shape) != 1 else {}
    return OrderedDict[str, nn.Module](**flatten, linear=linear), linear


def _clear(*parameters: Tensor) -> None:
    for parameter in parameters:
        nn.init.zeros_(parameter)
