"""The end of a rank under torchrun: what it leaves in torchrun's own report, and who it takes with it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable

from torch.distributed.elastic.multiprocessing.errors import get_error_handler

from pipeline.errors import WorkerFailed, last_words
from pipeline.schedules.replicas import Replicas
from workers.control import SILENT_S
from workers.host.identity import ProcessIdentity
from workers.watch import ELSEWHERE_S

__all__ = ["SilentLeader", "end_rank", "end_stopped", "note_first_error", "wait_for_first"]

_FIRST_S = 1.0
"""Seconds that the first rank of a host has to print why the run ends; torchrun ends the others meanwhile."""
_TURN_S = 0.5
"""Between the ranks that notice the same: the first one speaks, and torchrun ends the others."""
_MAX_TURNS = 8


def note_first_error(error: BaseException) -> None:
    """Put an error into the file from which torchrun's report names the first failure of all ranks."""
    try:
        raise error  # the handler writes down the traceback of the error that is being handled
    except BaseException:
        get_error_handler().record_exception(error)


def end_rank(error: BaseException, code: int = 1) -> None:
    """Print an error and end this process, whatever its threads wait for. Called where the error is handled."""
    code = error.code if isinstance(error, SystemExit) and isinstance(error.code, int) else code
    if not isinstance(error, (SystemExit, KeyboardInterrupt)):
        note_first_error(error)
    sys.stderr.write(f"launch.py: {last_words(error)}\n")
    sys.stderr.flush()
    os._exit(code)


def wait_for_first() -> None:
    """Lets the first rank of this host print why the run ends, and be the first to end: torchrun's report begins with
    it. Called by the others before they end."""
    time.sleep(_FIRST_S)


def end_stopped(identities: Iterable[ProcessIdentity]) -> None:
    """Have the stopped ones of these processes killed in a moment, when this process has ended.

    A stopped process cannot hear that it is told to end, and torchrun would wait half a minute for it. Killed at once,
    its end might be what torchrun's report calls the first failure.
    """
    for identity in identities:
        if identity.is_stopped:
            subprocess.Popen(
                ["/bin/sh", "-c", f"sleep 1; kill -{int(signal.SIGKILL)} {identity.pid}"], start_new_session=True,
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip


class SilentLeader:
    """Called while rank 0 has missed its beats: ends this rank if rank 0 is stopped, or lost with its host.

    Args:
        leader: rank 0's process.
        rank: this one.
        replicas: processes of each stage: the ranks.
    """

    def __init__(self, leader: ProcessIdentity, rank: int, replicas: Replicas) -> None:
        self._leader = leader
        self._rank, self._replicas = rank, replicas
        self._last = self._since = 0.0

    def __call__(self) -> None:
        now = time.monotonic()
        if now - self._last > ELSEWHERE_S:
            self._since = now
        self._last = now
        if self._leader.is_here and not self._leader.is_stopped:
            return  # starved, or it holds the interpreter's lock: no reason to end
        if self._leader.is_here:
            reason = f"its process was stopped by a signal (pid {self._leader.pid}, SIGSTOP or the like)."
        elif now - self._since > ELSEWHERE_S - SILENT_S:
            reason = "nothing has been heard of it: it was stopped, or its host or the network between is gone."
        else:
            return
        time.sleep(_TURN_S * min(self._rank - 1, _MAX_TURNS))
        end_stopped([self._leader])
        reason = f"{reason} It also coordinates, so every rank ends."
        end_rank(WorkerFailed(0, self._replicas.num_stages, reason, name=self._replicas.name(0)))
