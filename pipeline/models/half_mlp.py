"""Fully connected network whose blocks meet in front of their units and send pre-activations, normalised or not.

A block is the unit of the layer below, behind that layer's dropout, a linear map, and a normalisation. These are the
nets of alternating minimisation, whose codes are pre-activations; ``mlp`` with ``boundary = "half"`` is the same
without normalisation and dropout.
"""

from collections import OrderedDict
from functools import partial
from math import prod
from typing import Annotated, Literal

from torch import nn

from pipeline.models._activations import Activation, Unit, units_of
from pipeline.network.block import Block, Blueprint
from pipeline.ranges import Count, Range

__all__ = ["build"]


def build(
    input_shape: tuple[int, ...],
    num_outputs: int,
    *,
    width: list[Count] = [100, 100],
    activation: Activation | list[Activation] = "relu",
    norm: Literal["none", "batch", "layer"] = "batch",
    dropout: Annotated[float, Range(0, 1, below=True)] = 0.0,
    bias: bool = False,
    group: Count = 4,
) -> list[Blueprint]:
    """Blueprints of a block for each width, and of the output block, which has a bias and no normalisation.

    Args:
        input_shape: shape of one sample; flattened in the first block.
        num_outputs: width of the output block.
        width: units of each hidden layer.
        activation: of all hidden layers, or one for each.
        norm: behind each hidden layer's linear map.
        dropout: probability, in front of each hidden layer's unit.
        bias: of the hidden layers' linear maps.
        group: units in a group of ``lwta`` and ``slwta``; divides the widths.

    Raises:
        ConfigError: there are not as many activations as widths, or a width cannot be grouped.
    """
    units = units_of(activation, len(width), group)
    for unit, size in zip(units, width, strict=True):
        unit.check(size)
    shapes = [input_shape, *((size,) for size in width)]
    around, sizes = [None, *units, None], [*width, num_outputs]
    blocks = []
    for k, size in enumerate(sizes):
        is_output = k == len(width)
        form = dropout, "none" if is_output else norm, bias or is_output
        make = partial(_make, shapes[k], size, (around[k], around[k + 1]), *form)
        blocks.append(Blueprint(make, f"linear {prod(shapes[k])}-{size}"))
    return blocks


def _make(
    in_shape: tuple[int, ...], size: int, units: tuple[Unit | None, Unit | None], dropout: float, norm: str, bias: bool
) -> Block:
    """Args: units: below, with which the block begins, and ahead."""
    below, ahead = units
    body = OrderedDict[str, nn.Module]()
    if below is None and len(in_shape) != 1:
        body["flatten"] = nn.Flatten()
    if below is not None:
        if dropout:
            body["dropout"] = nn.Dropout(dropout)
        body.update(below.layers())
    body["linear"] = nn.Linear(prod(in_shape), size, bias=bias)
    if norm != "none":
        body["norm"] = nn.BatchNorm1d(size) if norm == "batch" else nn.LayerNorm(size)
    return Block(nn.Sequential(body), ahead=None if ahead is None else nn.Sequential(OrderedDict(ahead.layers())))
