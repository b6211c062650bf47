"""How far the weights of each block have moved between two measurements, as a share of their length."""

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["Weights", "relative_updates"]

Weights = Sequence[Sequence[Tensor]]
"""The matrices and kernels of each block."""


def relative_updates(before: Weights | None, after: Weights) -> list[float | None]:
    """``||W - W_before|| / ||W_before||`` of each block, with the Frobenius norm over all its matrices together.

    Args:
        before: at the measurement before; None at the first one.
        after: now, of the same blocks.

    Returns:
        A ratio for each block; None where there is nothing before, or the weights were 0.
    """
    if before is None:
        return [None] * len(after)
    return [_ratio(old, new) for old, new in zip(before, after, strict=True)]


def _ratio(before: Sequence[Tensor], after: Sequence[Tensor]) -> float | None:
    length = _length(before)
    return _length([new - old for old, new in zip(before, after, strict=True)]) / length if length else None


def _length(matrices: Sequence[Tensor]) -> float:
    """Of all entries together, in float64."""
    return float(torch.stack([m.double().square().sum() for m in matrices]).sum().sqrt()) if matrices else 0.0
