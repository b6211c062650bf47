"""Length of tensors laid out one after another in one piece of memory, each at a multiple of 64 bytes.

64 bytes are a cache line and the alignment of torch's own CPU allocations, so a tensor that is used where it landed
behaves like any other.
"""

from collections.abc import Sequence

from torch import Tensor

__all__ = ["ALIGN", "packed_bytes", "padded"]

ALIGN = 64


def padded(num_bytes: int) -> int:
    """``num_bytes`` rounded up to the alignment."""
    return (num_bytes + ALIGN - 1) & -ALIGN


def packed_bytes(tensors: Sequence[Tensor]) -> int:
    """Bytes of ``tensors`` in that layout; on any device, and without memory of their own (``meta``) as well."""
    total = 0
    for tensor in tensors:  # a loop and not a sum over calls of padded(): 0.4 us in place of 1.2, for every message
        total += (tensor.nbytes + ALIGN - 1) & -ALIGN
    return total
