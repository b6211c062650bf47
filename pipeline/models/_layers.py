"""Blocks of the models, as picklable functions.

The body is convolution or linear layer, normalisation, nonlinearity (``activation``, and ``hard`` where a part of it
is non-differentiable, see :mod:`pipeline.network.hard_units`); dropout and max-pooling are the outlet, because local
losses read the body's output. No layer works in place: a rule keeps the body's output while the next block is already
reading it.
"""

from collections import OrderedDict
from functools import partial
from math import prod
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.errors import ConfigError
from pipeline.models._activations import ConvActivation, Unit
from pipeline.models._init import Initial
from pipeline.network.block import Block, Blueprint

__all__ = ["L2Normalise", "MaxPool", "Norm", "check_dropout", "conv", "half_layer", "hidden", "output"]

Norm = Literal["none", "batch", "layer", "l2"]


class MaxPool(nn.MaxPool2d):
    """2 x 2 max-pooling with stride 2.

    Where no gradient is required, as behind a block with a local loss, two maxima over views take its place: a
    thirtieth of the time of torch's own kernel, which also records the position of each maximum.
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
    """Raise ConfigError unless ``dropout`` is a probability below 1."""
    if not 0.0 <= dropout < 1.0:
        raise ConfigError(
            f"the dropout probability is out of range (given: model.dropout = {dropout}, expected: at least 0, "
            "below 1). Change it."
        )


def hidden(
    in_shape: tuple[int, ...],
    width: int,
    *,
    unit: Unit = Unit("relu"),
    norm: Norm = "batch",
    dropout: float = 0.0,
    init: Initial = Initial(),
) -> Blueprint:
    """Blueprint of a hidden linear block.

    Args:
        in_shape: shape of one sample; anything but a vector is flattened inside the body.
        width: number of units.
        unit: nonlinearity.
        norm: normalisation; ``l2`` stands after the nonlinearity, the others before it.
        dropout: probability of dropping a unit, in the outlet.
        init: initialisation of the linear layer.

    Raises:
        ConfigError: the width does not suit the nonlinearity.
    """
    unit.check(width)
    make = partial(_make_hidden, in_shape, width, unit, norm, dropout, init)
    return Blueprint(make, f"linear {prod(in_shape)}-{width}")


def output(in_shape: tuple[int, ...], num_outputs: int, init: Initial = Initial()) -> Blueprint:
    """Blueprint of the last block: a linear layer alone."""
    return half_layer(in_shape, num_outputs, init=init, is_output=True)


def half_layer(
    in_shape: tuple[int, ...],
    width: int,
    *,
    below: Unit | None = None,
    ahead: Unit | None = None,
    init: Initial = Initial(),
    is_output: bool = False,
) -> Blueprint:
    """Blueprint of a block from one pre-activation to the next: the unit of the layer below, and a linear layer.

    Args:
        in_shape: shape of one sample; anything but a vector is flattened inside the body.
        width: units of the linear layer.
        below: unit at the beginning of the block; None where its input is no pre-activation.
        ahead: unit at the beginning of the block above; None for none.
        init: initialisation of the linear layer.
        is_output: True for the last block of the network.

    Raises:
        ConfigError: the width does not suit the nonlinearity ahead.
    """
    if ahead is not None:
        ahead.check(width)
    make = partial(_make_half_layer, in_shape, width, below, ahead, init, is_output)
    return Blueprint(make, f"linear {prod(in_shape)}-{width}")


def conv(
    channels: tuple[int, int],
    *,
    activation: ConvActivation = "relu",
    dropout: float = 0.0,
    pool: bool = False,
    kernel: int = 3,
    stride: int = 1,
) -> Blueprint:
    """Blueprint of a convolutional block, padded so that only ``stride`` and ``pool`` change the size of the map.

    Args:
        channels: input and output channels.
        activation: nonlinearity.
        dropout: probability that a whole channel is dropped, in the outlet.
        pool: True ends the outlet with 2 x 2 max-pooling.
        kernel: edge of the kernel in pixels, odd.
        stride: stride in pixels.
    """
    make = partial(_make_conv, channels, activation, dropout, pool, kernel, stride)
    return Blueprint(make, f"conv {channels[0]}-{channels[1]}" + (" pool" if pool else ""))


def _make_hidden(
    in_shape: tuple[int, ...], width: int, unit: Unit, norm: Norm, dropout: float, init: Initial
) -> Block:
    body = _linear(in_shape, width, init)
    if norm == "batch":
        body["norm"] = nn.BatchNorm1d(width)
    elif norm == "layer":
        body["norm"] = nn.LayerNorm(width)
    body.update(unit.layers())
    if norm == "l2":
        body["norm"] = L2Normalise()
    return Block(nn.Sequential(body), nn.Dropout(dropout) if dropout else None)


def _make_half_layer(
    in_shape: tuple[int, ...], width: int, below: Unit | None, ahead: Unit | None, init: Initial, is_output: bool
) -> Block:
    body = OrderedDict({} if below is None else below.layers())
    body.update(_linear(in_shape, width, init, is_output))
    return Block(nn.Sequential(body), ahead=None if ahead is None else nn.Sequential(OrderedDict(ahead.layers())))


def _make_conv(
    channels: tuple[int, int], activation: ConvActivation, dropout: float, pool: bool, kernel: int, stride: int
) -> Block:
    body = OrderedDict[str, nn.Module](
        conv=nn.Conv2d(*channels, kernel, stride, padding=kernel // 2),
        norm=nn.BatchNorm2d(channels[1]),
        **Unit(activation).layers(),
    )
    outlet: list[nn.Module] = [nn.Dropout2d(dropout)] if dropout else []
    if pool:
        outlet.append(MaxPool())
    return Block(nn.Sequential(body), nn.Sequential(*outlet) if outlet else None)


def _linear(
    in_shape: tuple[int, ...], width: int, init: Initial, is_output: bool = False
) -> OrderedDict[str, nn.Module]:
    """Layers of a linear map over flattened samples, named for the state dict."""
    linear = nn.Linear(prod(in_shape), width)
    init(linear, is_output=is_output)
    flatten = {"flatten": nn.Flatten()} if len(in_shape) != 1 else {}
    return OrderedDict[str, nn.Module](**flatten, linear=linear)
