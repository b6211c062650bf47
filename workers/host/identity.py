"""Identity of a process, by which another one on the same host can tell whether it runs, is stopped, or is gone.

A process id alone is used again, and means something else on another host or in another container.
"""

import os
import platform
import signal
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

__all__ = ["ProcessIdentity", "this_kernel"]

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_PID_NAMESPACE = "/proc/self/ns/pid"


def this_kernel() -> str:
    """Name of what process ids are counted by here: this start of this host, and the container's own count."""
    name = platform.node()
    with suppress(OSError):
        name += f" {_BOOT_ID.read_text(encoding='ascii').strip()} {os.readlink(_PID_NAMESPACE)}"
    return name


def _look(pid: int) -> tuple[bool, int] | None:
    """Whether a process is stopped, and the moment at which it started; None where there is no such process.

    The moment is a number to be compared only: Linux's own count since the boot, which does not change when the
    clock is set.
    """
    try:
        # The name, in brackets, may hold anything; the first field behind it is the state, the 20th the start.
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf8", errors="replace").rpartition(")")[2].split()
        # T: stopped by a signal. A small t is a debugger's doing.
        return None if fields[0] in "ZX" else (fields[0] == "T", int(fields[19]))
    except (OSError, ValueError, IndexError):
        return None if sys.platform == "linux" else _look_elsewhere(pid)


def _look_elsewhere(pid: int) -> tuple[bool, int] | None:
    """As :func:`_look`, on systems other than Linux."""
    import psutil  # not needed on Linux, where the launcher imports this file before all else

    try:
        process = psutil.Process(pid)
        return process.status() == psutil.STATUS_STOPPED, round(process.create_time())
    except (psutil.Error, ValueError):
        return None


@dataclass(frozen=True)
class ProcessIdentity:
    """A process of some host."""

    kernel: str
    """See :func:`this_kernel`."""
    pid: int
    started: int

    @classmethod
    def of(cls, pid: int) -> Self | None:
        """A process of this host; None where there is none."""
        found = _look(pid)
        return None if found is None else cls(this_kernel(), pid, found[1])

    @classmethod
    def own(cls) -> Self:
        """This process."""
        found = cls.of(os.getpid())
        assert found is not None, "this process runs"
        return found

    @classmethod
    def from_table(cls, table: Any) -> Self:
        """The identity that :meth:`to_table` has written.

        Raises:
            ValueError: it is none.
        """
        try:
            kernel, pid, started = table["kernel"], table["pid"], table["started"]
        except (TypeError, KeyError) as error:
            raise ValueError(f"no identity of a process: {error}") from error
        if not (isinstance(kernel, str) and isinstance(pid, int) and isinstance(started, int) and pid > 0):
            raise ValueError(f"no identity of a process: {table}")
        return cls(kernel, pid, started)

    def to_table(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)

    @property
    def is_here(self) -> bool:
        """It can be looked at from here: same host, not restarted since, same container."""
        return self.kernel == this_kernel()

    @property
    def is_alive(self) -> bool:
        """It runs here, or is stopped; False for a process of another host."""
        return self._now() is not None

    @property
    def is_stopped(self) -> bool:
        """It is here and was stopped by a signal; a debugger that holds it does not count."""
        found = self._now()
        return found is not None and found[0]

    def _now(self) -> tuple[bool, int] | None:
        """See :func:`_look`; None for another process with the same id, too."""
        found = _look(self.pid) if self.is_here else None
        return found if found is not None and found[1] == self.started else None

    def kill(self) -> None:
        """End it at once where it is here and alive, also when it is stopped."""
        if self.is_alive:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(self.pid, signal.SIGKILL)
