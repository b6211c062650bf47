"""Residual networks whose every pair of convolutions, with the shortcut around it, is one block.

The shortcut stays inside its block, so nothing but the block's output travels. (The published code of Nøkland and
Eidnes 2019 trains each convolution of a pair by a local loss of its own, and lets the shortcut pass around both.)
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Literal

from torch import Tensor, nn

from pipeline.errors import ConfigError
from pipeline.models._activations import ConvActivation, Unit
from pipeline.models._init import Initial
from pipeline.models._layers import check_dropout, conv, output
from pipeline.network.block import Block, Blueprint
from pipeline.ranges import Range

__all__ = ["ResidualOptions", "ResidualPair", "residual_net", "scaled"]

_LARGE = 64
"""Inputs with more pixels than this along an edge begin with a 7 x 7 convolution of stride 2 and a pool."""

@dataclass(frozen=True)
class ResidualOptions:
    """Options of the residual models."""

    width: Annotated[float, Range(0, 1000, above=True)] = 1.0
    """Factor on the channels of the residual blocks, 0.25 for a thin net, and of the first convolution of ResNet-18."""
    dropout: Annotated[float, Range(0, 1, below=True)] = 0.0
    """Probability of dropping a channel behind every block but the last."""
    activation: ConvActivation = "relu"
    """Nonlinearity; ``leaky_relu`` has slope 0.01."""
    init: Literal["default", "zero_output"] = "default"
    """``zero_output``: the output block's weight starts at 0, as in the published runs of local losses."""


class ResidualPair(nn.Module):
    """Two 3 x 3 convolutions with batch norm, and a shortcut around them.

    ``f(x) + s(x)`` with f convolution, norm, unit, convolution, norm, behind which the block has a unit; or with
    ``pre_activation`` norm, unit, convolution, norm, unit, convolution and nothing behind. s is the identity, or where
    the shape changes a 1 x 1 convolution, of the input's unit under ``pre_activation``.

    Args:
        channels: input and output channels.
        stride: of the first convolution and of the shortcut, in pixels.
        activation: nonlinearity, without parameters.
        pre_activation: norm and unit stand in front of each convolution (He et al. 2016b).
    """

    def __init__(
        self, channels: tuple[int, int], stride: int, activation: ConvActivation, pre_activation: bool
    ) -> None:
        super().__init__()
        num_in, num_out = channels
        self.pre_activation = pre_activation
        self.conv1 = nn.Conv2d(num_in, num_out, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(num_out, num_out, 3, 1, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(num_in if pre_activation else num_out)
        self.norm2 = nn.BatchNorm2d(num_out)
        self.unit1, self.unit2 = (nn.Sequential(OrderedDict(Unit(activation).layers())) for _ in range(2))
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or num_in != num_out:
            project = nn.Conv2d(num_in, num_out, 1, stride, bias=False)
            self.shortcut = project if pre_activation else nn.Sequential(project, nn.BatchNorm2d(num_out))

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, height, width) to the output's channels, and with stride 2 to half of both, rounded up."""
        if self.pre_activation:
            h = self.unit1(self.norm1(x))
            around = x if isinstance(self.shortcut, nn.Identity) else self.shortcut(h)
            out: Tensor = self.conv2(self.unit2(self.norm2(self.conv1(h)))) + around
            return out
        h = self.norm2(self.conv2(self.unit1(self.norm1(self.conv1(x)))))
        out = self.unit2(h + self.shortcut(x))
        return out


def residual_net(
    name: str, stem: int, groups: Sequence[tuple[int, int]], input_shape: tuple[int, ...], num_outputs: int,
    options: ResidualOptions, *, pre_activation: bool = False,
) -> list[Blueprint]:  # fmt: skip
    """A convolutional block, the residual blocks, and the output block, which reads the means of the last maps.

    Args:
        name: of the model, for error messages.
        stem: channels of the first convolution.
        groups: channels at ``width`` 1, and number of blocks; every group but the first begins with stride 2.
        input_shape: (channels, height, width).
        num_outputs: width of the output block.
        options: see :class:`ResidualOptions`.
        pre_activation: see :class:`ResidualPair`.

    Raises:
        ConfigError: the input is no image, or an option is out of its range.
    """
    check_dropout(options.dropout)
    if len(input_shape) != 3:
        raise ConfigError(
            f"{name} reads images (given: samples of shape {input_shape}, expected: channels, height, width). "
            "Choose another model, or a data set of images."
        )
    large = max(input_shape[1:]) > _LARGE
    blocks = [
        conv((input_shape[0], stem), activation=options.activation, dropout=options.dropout, pool=large,
             kernel=7 if large else 3, stride=2 if large else 1)
    ]  # fmt: skip
    plan = [
        (channels, 2 if group and not place else 1)
        for group, (channels, count) in enumerate(groups) for place in range(count)
    ]  # fmt: skip
    num_in = stem
    for index, (channels, stride) in enumerate(plan):
        num_out, is_last = scaled(channels, options.width), index == len(plan) - 1
        make = partial(_make_pair, (num_in, num_out), stride, options, pre_activation, is_last)
        blocks.append(Blueprint(make, f"residual {num_in}-{num_out}" + (" / 2" if stride == 2 else "")))
        num_in = num_out
    return [*blocks, output((num_in,), num_outputs, Initial(options.init))]


def _make_pair(
    channels: tuple[int, int], stride: int, options: ResidualOptions, pre_activation: bool, is_last: bool
) -> Block:
    body = OrderedDict[str, nn.Module](pair=ResidualPair(channels, stride, options.activation, pre_activation))
    if is_last and pre_activation:
        body["norm"] = nn.BatchNorm2d(channels[1])
        body.update(Unit(options.activation).layers())
    outlet: list[nn.Module] = []
    if is_last:
        outlet = [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    elif options.dropout:
        outlet = [nn.Dropout2d(options.dropout)]
    return Block(nn.Sequential(body), nn.Sequential(*outlet) if outlet else None)


def scaled(channels: int, width: float) -> int:
    """``channels`` times the multiplier, rounded.

    Raises:
        ConfigError: none is left.
    """
    scaled = round(channels * width)
    if scaled < 1:
        raise ConfigError(
            f"a convolution needs at least one channel (given: model.width = {width}, expected: a multiplier "
            f"above 0 that leaves at least one of {channels} channels). Raise model.width."
        )
    return scaled
