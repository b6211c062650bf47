"""Images with their channels last in memory, (batch, height, width, channels), as a run may ask for.

oneDNN and cuDNN convolve and normalise in this order without copying into an order of their own, and pool several
times faster. Only the memory is laid out otherwise: shapes stay (batch, channels, height, width).
"""

import torch
from torch import Tensor

__all__ = ["channels_last", "from_wire", "in_memory_order", "to_wire"]


def channels_last(x: Tensor) -> Tensor:
    """``x`` with its channels last in memory where it is a batch of maps, copied only if it is not so yet."""
    return x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x


def to_wire(tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Maps as (batch, height, width, channels), a view: contiguous as they lie, so that a transport need not know."""
    return tuple(t.permute(0, 2, 3, 1) if t.dim() == 4 else t for t in tensors)


def from_wire(tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """What :func:`to_wire` was given."""
    return tuple(t.permute(0, 3, 1, 2) if t.dim() == 4 else t for t in tensors)


def in_memory_order(h: Tensor, matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Both as rows of features in the order in which ``h`` lies in memory: a product of the two needs no copy then.

    Args:
        h: (batch, ...).
        matrix: (outputs, ...) over the same features.

    Returns:
        (batch, features) and (outputs, features).
    """
    if h.dim() == 4 and not h.is_contiguous() and h.is_contiguous(memory_format=torch.channels_last):
        return h.permute(0, 2, 3, 1).flatten(1), matrix.permute(0, 2, 3, 1).flatten(1)
    return h.flatten(1), matrix.flatten(1)
