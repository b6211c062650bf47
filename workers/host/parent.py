"""A process that must not outlive its parent, on Linux by the kernel's own means.

A line to the parent tells the same, but only to a process that can listen: one that is stopped, or that hangs in
native code, is ended by the kernel all the same.
"""

import ctypes
import os
import signal
import sys
import threading
from multiprocessing import parent_process

__all__ = ["die_with_parent", "end_with_starter"]

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


def end_with_starter() -> None:
    """Has a thread end this process when the one that had it forked has ended.

    For the time before :func:`die_with_parent`: whoever is killed takes the server that forks with it, perhaps before
    this process has said that it wants to die, and the kernel then takes a stranger for its parent.
    """
    starter = parent_process()
    if starter is not None:
        threading.Thread(target=_end_behind, args=(starter.sentinel,), daemon=True).start()


def _end_behind(sentinel: int) -> None:
    """Waits for as long as the process lives whose sentinel this is."""
    from multiprocessing.connection import wait  # imported here: commands that fork nothing begin sooner

    wait([sentinel])
    os._exit(1)
