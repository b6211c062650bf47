"""Memory that large messages are received into, used again as soon as nothing of what was received is left.

The C library gives pieces of more than 32 MiB back to the kernel when they are freed, however often they are asked
for, and the kernel clears every page of the next one. Smaller pieces it keeps by itself.
"""

import weakref
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

__all__ = ["ReceiveBuffers"]

_LEAST_BYTES = 32 * 2**20
"""The most that glibc's threshold for pieces of their own rises to, where addresses have 64 bits."""

Bytes = np.ndarray[tuple[int], np.dtype[np.uint8]]


@dataclass(eq=False)
class _Piece:
    """Memory, and what of it was lent last."""

    memory: Bytes
    lent: weakref.ref[Bytes] | None = field(default=None)

    @property
    def is_idle(self) -> bool:
        """Whether nothing of it is in use."""
        return self.lent is None or self.lent() is None

    def lend(self, num_bytes: int) -> Tensor:
        """Its first ``num_bytes``, for a storage that is the only one to hold the array: it goes when that does."""
        part = self.memory[:num_bytes]
        self.lent = weakref.ref(part)
        return torch.from_numpy(part)


class ReceiveBuffers:
    """Hands out memory for one message after another; as many pieces are kept as were in use at once.

    Args:
        least_bytes: size of a message from which its memory is kept.
    """

    def __init__(self, least_bytes: int = _LEAST_BYTES) -> None:
        self._least_bytes = least_bytes
        self._pieces: list[_Piece] = []

    def take(self, num_bytes: int) -> Tensor:
        """uint8 (num_bytes,), aligned as torch's own; its values are whatever they were.

        The memory is in use until the last tensor over its storage is gone, in whatever graph that is.
        """
        if num_bytes < self._least_bytes:
            return torch.empty(num_bytes, dtype=torch.uint8)
        for piece in self._pieces:
            if piece.is_idle and len(piece.memory) >= num_bytes:
                return piece.lend(num_bytes)
        self._pieces = [piece for piece in self._pieces if not piece.is_idle]  # those are too small
        fresh = _Piece(torch.empty(num_bytes, dtype=torch.uint8).numpy())
        self._pieces.append(fresh)
        return fresh.lend(num_bytes)
