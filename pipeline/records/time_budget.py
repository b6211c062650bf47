"""Time budget and memory of a stage.

Time is kept by a state machine and not by timers around calls: at any moment the stage is in exactly one
:class:`Activity`, so the budget adds up to the wall time by construction.
"""

import resource
import sys
import time
from collections.abc import Iterable
from enum import Enum
from typing import cast

import torch
from torch import nn

from pipeline.records.reports import Pulse, TimeRow
from pipeline.schedules.position import EVALUATION, NOWHERE, Position

__all__ = ["Activity", "TimeBudget", "module_bytes", "peak_device_bytes", "peak_rss_bytes"]


class Activity(Enum):
    """A stage's activity; the value is the name in ``result.json``, less ``_s``.

    It is the host's time. On CUDA a kernel runs after the call that starts it has returned: forward and learn are
    then the time to start them, and the rest appears wherever the host next waits for the device.
    """

    FORWARD = "forward"
    """Training micro-batches through the active blocks; keeping the inputs of a block is in it."""
    LEARN = "learn"
    """Losses and their gradients, and the optimizer's steps."""
    WAIT_RECV = "wait_recv"
    """For input or feedback from another stage, and for a plan that depends on results."""
    WAIT_SEND = "wait_send"
    """For room in the queue to another stage."""
    TRANSFER = "transfer"
    """Tensors on their way into the stage and out of it: messages copied from and to the transport, and where block
    0 is, training batches cut out of the data set and augmented."""
    EVAL = "eval"
    """Everything done about test batches, and about probes, but waiting and copying messages."""
    OTHER = "other"
    """The rest: plans, reports, and the loop between two of the above."""

    # Enum's own hash is a Python function, which took half the time of booking an interval. Members are singletons.
    __hash__ = object.__hash__


class TimeBudget:
    """Seconds per activity since construction, or since :meth:`restart`."""

    def __init__(self) -> None:
        self._activity = Activity.OTHER
        self._position = NOWHERE
        self.restart()

    def restart(self) -> None:
        """Forgets what was booked: the run's clock starts when every stage is built and connected."""
        self._seconds = dict.fromkeys(Activity, 0.0)
        self._start = self._since = time.perf_counter()

    def enter(self, activity: Activity) -> Activity:
        """Ends the current activity and starts another; returns the one that ended."""
        now = time.perf_counter()
        ended = self._activity
        self._seconds[ended] += now - self._since
        self._since, self._activity = now, activity
        return ended

    def end_transfer(self, waited: float, wait: Activity, peer: int) -> None:
        """Ends a transfer and enters OTHER.

        Args:
            waited: seconds of it, as the transport reports them, that were waiting.
            wait: for what; it is taken to have come before the copying.
            peer: the stage at the other end.
        """
        now = time.perf_counter()
        self._seconds[Activity.TRANSFER] += now - self._since - waited
        self._seconds[wait] += waited
        self._since, self._activity = now, Activity.OTHER

    def at(self, position: Position) -> None:
        """The stage goes on to ``position``."""
        self._position = position

    def pulse(self) -> Pulse:
        """What the stage is doing; may be asked from another thread, and changes nothing."""
        epoch, step, microbatch = self._position
        return {
            "activity": self._activity.value, "seconds": time.perf_counter() - self._since,
            "epoch": epoch, "step": step, "evaluates": microbatch == EVALUATION and step >= 0,
        }  # fmt: skip

    def read(self) -> TimeRow:
        """``forward_s``, ``learn_s``, ... and ``wall_s``, their sum."""
        self.enter(self._activity)
        seconds = {f"{a.value}_s": s for a, s in self._seconds.items()}
        return cast(TimeRow, {**seconds, "wall_s": self._since - self._start})


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
