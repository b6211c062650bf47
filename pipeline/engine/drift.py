"""Drift: how far a block's input moves from one probe to the next, the same samples in evaluation mode each time.

With P the input of a block at a probe and P' that at the probe before, of the same m samples,

    axis j:  rho_j = mean_i |P_ij - P'_ij| / (std_i(P_ij) + 1e-6)          block:  rho = |P - P'| / |P'|

and drift is their moving average, ``D <- lambda D + (1 - lambda) rho``. An axis is a feature, or a channel, whose mean
and spread are then over all positions. A feature that is the same for all samples and does not move has not drifted.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pipeline.learning.activation import is_smooth_unit
from pipeline.learning.affine import layers_of
from pipeline.network.block import Block
from pipeline.network.hard_units import NonDifferentiable
from pipeline.numerics.finite import all_finite

__all__ = ["Shift", "axis_shift", "block_shift", "columns_of", "is_finite", "kept", "smoothed"]

Shift = float | Tensor
"""Of a block, or of each of its axes, (axes,)."""

_EPS = 1e-6
_KEEPS = (
    NonDifferentiable, nn.Flatten, nn.Dropout, nn.Dropout2d, nn.BatchNorm1d, nn.BatchNorm2d, nn.LayerNorm, nn.GroupNorm,
    nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d,
)  # fmt: skip
"""Layers behind which an axis, or its part of the flattened features, is where it was; elementwise units are others."""


def axis_shift(before: Tensor, now: Tensor) -> Tensor:
    """Relative displacement of each axis between two probes.

    Args:
        before, now: inputs of a block, (samples, features), (samples, positions, features) or (samples, channels,
            height, width).

    Returns:
        (features,) or (channels,), float32.
    """
    axis = 1 if now.dim() == 4 else now.dim() - 1
    others = [d for d in range(now.dim()) if d != axis]
    now = now.float()
    # Two passes, which are vectorised: ``std`` takes ten times as long, and is asked where squares overflow.
    spread = (now - now.mean(dim=others, keepdim=True)).square_().mean(dim=others).sqrt_()
    if not math.isfinite(float(spread.max())):
        spread = now.std(dim=others, correction=0)
    return (now - before.float()).abs_().mean(dim=others) / spread.add_(_EPS)


def block_shift(before: Tensor, now: Tensor) -> float:
    """Displacement of a whole input between two probes, as a share of its length. Args: see :func:`axis_shift`."""
    length = float(torch.linalg.vector_norm(before.float()))
    moved = float(torch.linalg.vector_norm(now.float() - before.float()))
    if not math.isfinite(moved):  # of an input that was all zeros, too
        return moved
    return moved / length if length > 0.0 else float(moved > 0.0)


def is_finite(x: Tensor, shift: Shift | None) -> bool:
    """An input is finite. Where its shift is, so is every number of it, which is seen in a tenth of the time."""
    if shift is not None and math.isfinite(float(shift.sum()) if isinstance(shift, Tensor) else shift):
        return True
    return all_finite({0: [x]})[0]


def smoothed(drift: Shift | None, shift: Shift, memory: float) -> Shift:
    """The moving average after one more displacement. Args: drift, before it, None for the first; memory, lambda."""
    return shift if drift is None else memory * drift + (1.0 - memory) * shift


def kept(x: Tensor) -> Tensor:
    """A copy to compare the next probe with: in one order in memory, by which sums go, as a snapshot gives it back."""
    return x.detach().clone(memory_format=torch.contiguous_format)


def columns_of(block: Block, in_shape: Sequence[int]) -> tuple[Tensor, tuple[int, ...], int] | None:
    """The weight that reads a block's input, whose columns are the axes of that.

    Args:
        block: its layers.
        in_shape: of a sample of its input.

    Returns:
        The weight, the shape that a vector of its columns is broadcast in, and the columns of each axis, next to each
        other; None where the block begins with something else than a linear layer or a convolution behind layers that
        leave axes in their places, or its columns are no axes.
    """
    layers = layers_of(block)
    at = next((k for k, layer in enumerate(layers) if not _keeps_axes(layer)), len(layers))
    first, is_flat = layers[at] if at < len(layers) else None, any(isinstance(f, nn.Flatten) for f in layers[:at])
    maps = len(in_shape) == 3
    if maps and isinstance(first, nn.Linear) and not is_flat:
        return None  # it reads the width
    num_axes = in_shape[0] if maps else in_shape[-1]
    if isinstance(first, nn.Conv2d) and first.groups == 1 and first.in_channels == num_axes:
        return first.weight, (1, -1, 1, 1), 1
    if isinstance(first, nn.Linear) and first.in_features % num_axes == 0 and (maps or first.in_features == num_axes):
        return first.weight, (1, -1), first.in_features // num_axes  # flattened maps lie channel by channel
    return None


def _keeps_axes(layer: nn.Module) -> bool:
    return isinstance(layer, _KEEPS) or is_smooth_unit(layer)
