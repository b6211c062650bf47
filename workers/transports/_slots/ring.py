"""Equal slots in one anonymous memory file that two processes map.

The file has no name (a memfd, or a temporary file that is unlinked at birth), so the kernel frees it with its last
user: nothing stays behind in ``/dev/shm`` however the processes end.
"""

import mmap
import os
import tempfile

import torch
from torch import Tensor

from workers.transports._packing import padded

__all__ = ["Slots", "anonymous_file", "slot_stride"]

_ROOM_FOR_PADDING = 256
"""Bytes beyond the expected payload, so that an activation and its labels still fit when each is padded."""


def slot_stride(slot_bytes: int) -> int:
    """Bytes from one slot to the next for messages of ``slot_bytes`` payload; a multiple of 64."""
    return padded(slot_bytes) + _ROOM_FOR_PADDING


def anonymous_file(num_bytes: int, folder: str) -> int:
    """A descriptor of a new nameless file of zeros; ``folder`` serves where the system has no memfd."""
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("onward")
    else:
        with tempfile.TemporaryFile(dir=folder) as file:
            fd = os.dup(file.fileno())
    os.ftruncate(fd, num_bytes)
    return fd


class Slots:
    """A ring of ``count`` slots of ``stride`` bytes each.

    Args:
        fd: of the file; the caller closes it, the mapping stays.
        count: of slots.
        stride: bytes per slot, a multiple of 64.
    """

    def __init__(self, fd: int, count: int, stride: int) -> None:
        self._map = mmap.mmap(fd, count * stride)
        self._bytes = torch.frombuffer(self._map, dtype=torch.uint8)
        self.stride = stride
        self.num_bytes = count * stride
        self.addresses = tuple(self._bytes.data_ptr() + slot * stride for slot in range(count))

    def part(self, slot: int, start: int, num_bytes: int) -> Tensor:
        """Bytes of one slot, uint8, not copied; must not outlive :meth:`close`."""
        at = slot * self.stride + start
        return self._bytes[at : at + num_bytes]

    def close(self) -> None:
        """Unmaps the memory; the addresses mean nothing any more."""
        self.addresses = ()
        self._bytes = torch.empty(0, dtype=torch.uint8)
        self._map.close()
