"""Allocator setting that keeps the memory a training step frees for the next step.

glibc hands large blocks back to the system when they are freed, so every gradient of a large layer is faulted in page
by page at every step. Measured on MNIST, MLP 3x1024, predsim, 2 stages on two cores: 12.2 s per epoch with the
defaults, 9.7 s without handing back.
"""

import ctypes
import sys

__all__ = ["keep_freed_memory"]

# The names are those of malloc.h.
_M_TRIM_THRESHOLD = -1
_M_MMAP_MAX = -4
_NEVER = 2**31 - 1


def keep_freed_memory() -> bool:
    """Tell this process's allocator to keep what is freed; False where it is not glibc's."""
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(_M_MMAP_MAX, 0)) and bool(mallopt(_M_TRIM_THRESHOLD, _NEVER))
