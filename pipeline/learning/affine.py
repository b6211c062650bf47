"""Splits a block at its one affine layer, and backpropagates through that by a matrix other than its weight."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.grad import conv2d_input

from pipeline.network.block import Block

__all__ = ["Affine", "AffineSplit", "back_through", "cut_at_affine", "layers_of", "run", "split_at_affine"]

Affine = nn.Linear | nn.Conv2d


@dataclass(frozen=True)
class AffineSplit:
    """Layers of a block in order: before its affine layer, that layer, and behind it."""

    before: tuple[nn.Module, ...]
    affine: Affine
    after: tuple[nn.Module, ...]


def cut_at_affine(block: Block, rule: str) -> AffineSplit:
    """Split the block at its only ``nn.Linear`` or ``nn.Conv2d``.

    Args:
        block: its layers stand in ``nn.Sequential``, nested or not.
        rule: name of the rule, for error messages.

    Raises:
        ValueError: there is no such layer or more than one, or it is not reached through ``nn.Sequential`` alone.
    """
    layers = layers_of(block)
    at = [k for k, layer in enumerate(layers) if isinstance(layer, Affine)]
    num_inside = sum(isinstance(m, Affine) for m in block.modules())
    if len(at) != 1 or num_inside != 1:
        raise ValueError(
            f"{rule} cannot find the affine layer to cut the block at (given: a block with {num_inside} affine "
            f"layers, {len(at)} of them directly in nn.Sequential, expected: exactly one nn.Linear or nn.Conv2d, "
            "directly in nn.Sequential). Make it a block of its own, or use rule dfa, whose default takes any block."
        )
    return AffineSplit(layers[: at[0]], cast(Affine, layers[at[0]]), layers[at[0] + 1 :])


def split_at_affine(block: Block, rule: str) -> AffineSplit:
    """Split the block as :func:`cut_at_affine` does, at a layer that :func:`back_through` supports.

    Raises:
        ValueError: see :func:`cut_at_affine`; or the layer is a convolution whose padding is not a number of zeros.
    """
    split = cut_at_affine(block, rule)
    affine = split.affine
    if isinstance(affine, nn.Conv2d) and (isinstance(affine.padding, str) or affine.padding_mode != "zeros"):
        raise ValueError(
            f"{rule} cannot send an error back through this padding (given: padding={affine.padding!r}, "
            f"padding_mode={affine.padding_mode!r}, expected: numbers, 'zeros'). Give the padding in pixels."
        )
    return split


def layers_of(block: Block) -> tuple[nn.Module, ...]:
    """The layers of body and outlet in order, those of nested ``nn.Sequential`` one by one."""
    return (*_flatten(block.body), *_flatten(block.outlet))


def _flatten(module: nn.Module) -> Iterator[nn.Module]:
    """The layers of nested ``nn.Sequential``s, in order."""
    if isinstance(module, nn.Sequential):
        for layer in module:
            yield from _flatten(layer)
    else:
        yield module


def run(layers: Iterable[nn.Module], x: Tensor) -> Tensor:
    """Run ``layers`` on ``x``, one after another."""
    for layer in layers:
        x = layer(x)
    return x


def back_through(affine: Affine, matrix: Tensor, delta: Tensor, shape: torch.Size) -> Tensor:
    """Backpropagate through an affine layer with ``matrix`` in place of its weight.

    Args:
        affine: the layer, for its stride, padding and groups.
        matrix: feedback matrix of the weight's shape.
        delta: error of the layer's output, (batch, ..., out) or (batch, out, height, width).
        shape: shape of the layer's input, the batch included.

    Returns:
        Error of the layer's input, of that shape.
    """
    matrix = matrix.to(delta.dtype)  # under autocast the error is in bfloat16
    if isinstance(affine, nn.Linear):
        return delta @ matrix
    padding = cast(tuple[int, ...], affine.padding)
    error: Tensor = conv2d_input(  # type: ignore[no-untyped-call]
        shape, matrix, delta, affine.stride, padding, affine.dilation, affine.groups
    )
    return error
