"""A process that must not outlive its parent, on Linux by the kernel's own means.

A line to the parent tells the same, but only to a process that can listen: one that is stopped, or that hangs in
native code, is ended by the kernel all the same.
"""

import ctypes
import os
import signal
import sys

__all__ = ["die_with_parent"]

_PR_SET_PDEATHSIG = 1
"""From linux/prctl.h."""


def die_with_parent(parent: int | None = None) -> bool:
    """Have the kernel kill this process when the thread that started it has ended; False where there is no such kernel.

    Args:
        parent: id of the parent, where it is known: it may have died before this call. Then this process ends.
    """
    if sys.platform != "linux":
        return False
    before = parent or os.getppid()
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    if prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        return False
    if os.getppid() != before:  # the death that the kernel would have told came first
        os.kill(os.getpid(), signal.SIGKILL)
    return True
