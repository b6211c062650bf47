"""Where a stage's time and memory go.

Time is kept by a state machine and not by timers around calls: at any moment the stage is in exactly one
:class:`Activity`, so the budget adds up to the wall time by construction.
"""

import resource
import sys
import time
from collections.abc import Iterable
from enum import Enum

import torch
from torch import nn

__all__ = ["Activity", "TimeBudget", "format_bytes", "module_bytes", "peak_device_bytes", "peak_rss_bytes"]


class Activity(Enum):
    """What a stage can be doing; the value is the name in ``result.json``, less ``_s``."""

    FORWARD = "forward"
    LEARN = "learn"
    WAIT_RECV = "wait_recv"
    WAIT_SEND = "wait_send"
    TRANSFER = "transfer"
    EVAL = "eval"
    OTHER = "other"


class TimeBudget:
    """Seconds per activity since construction."""

    def __init__(self) -> None:
        self._seconds = dict.fromkeys(Activity, 0.0)
        self._activity = Activity.OTHER
        self._start = self._since = time.perf_counter()

    def enter(self, activity: Activity) -> Activity:
        """Ends the current activity and starts another; returns the one that ended."""
        now = time.perf_counter()
        ended = self._activity
        self._seconds[ended] += now - self._since
        self._since, self._activity = now, activity
        return ended

    def move(self, seconds: float, source: Activity, target: Activity) -> None:
        """Books ``seconds`` of ``source`` as ``target``: a wait that a transport found inside a transfer."""
        self._seconds[source] -= seconds
        self._seconds[target] += seconds

    def read(self) -> dict[str, float]:
        """``forward_s``, ``learn_s``, ... and ``wall_s``, their sum."""
        self.enter(self._activity)
        table = {f"{a.value}_s": s for a, s in self._seconds.items()}
        table["wall_s"] = self._since - self._start
        return table


def peak_rss_bytes() -> int:
    """Peak resident memory of this process; pages shared with other processes count in each."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def peak_device_bytes(device: torch.device) -> int | None:
    """Peak bytes allocated by tensors on a CUDA device, by this process; None on CPU."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None


def module_bytes(modules: Iterable[nn.Module]) -> int:
    """Bytes of all parameters and buffers."""
    return sum(
        t.numel() * t.element_size() for m in modules for t in (*m.parameters(), *m.buffers())
    )


def format_bytes(count: float) -> str:
    """Bytes for people, in binary units: ``1.5 MiB``. The only place where bytes are divided."""
    for unit in ("B", "KiB", "MiB"):
        if abs(count) < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.2f} GiB"
