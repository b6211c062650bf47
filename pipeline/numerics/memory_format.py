"""Channels-last memory format: (batch, height, width, channels) in memory.

oneDNN and cuDNN convolve and normalise in this order without copying into an order of their own, and pool several
times faster. Only the memory layout changes: shapes stay (batch, channels, height, width).
"""

import torch
from torch import Tensor

__all__ = ["channels_last", "from_wire", "in_memory_order", "laid_out", "to_wire"]


def channels_last(x: Tensor) -> Tensor:
    """``x`` with its channels last in memory if it is a batch of maps; copied only where needed."""
    return x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x


def laid_out(x: Tensor, *, maps_last: bool) -> Tensor:
    """``x`` as it lies in memory behind an edge, where blocks have none between them: sums go by that order.

    Args:
        x: an activation or its gradient, perhaps a view in another order; copied only then.
        maps_last: maps lie channels last.
    """
    return channels_last(x) if maps_last and x.dim() == 4 else x.contiguous()


def to_wire(tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """View maps as (batch, height, width, channels), contiguous for transports, which know no memory format."""
    return tuple(t.permute(0, 2, 3, 1) if t.dim() == 4 else t for t in tensors)


def from_wire(tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Undo :func:`to_wire`, as views of shape (batch, channels, height, width)."""
    return tuple(t.permute(0, 3, 1, 2) if t.dim() == 4 else t for t in tensors)


def in_memory_order(h: Tensor, matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Flatten both to rows of features in the memory order of ``h``, so that their product needs no copy.

    Args:
        h: (batch, ...).
        matrix: (outputs, ...) over the same features.

    Returns:
        (batch, features) and (outputs, features).
    """
    if h.dim() == 4 and not h.is_contiguous() and h.is_contiguous(memory_format=torch.channels_last):
        return h.permute(0, 2, 3, 1).flatten(1), matrix.permute(0, 2, 3, 1).flatten(1)
    return h.flatten(1), matrix.flatten(1)
