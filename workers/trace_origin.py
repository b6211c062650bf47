"""Origin of a run's time line, and the reading of any process's clock at that moment."""

import platform
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self

__all__ = ["TraceStart"]

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def _host() -> str:
    """Identity of the host's clock, the same for processes that share it only: names of hosts may repeat."""
    try:
        return f"{platform.node()} {_BOOT_ID.read_text(encoding='ascii').strip()}"
    except OSError:
        return platform.node()


@dataclass(frozen=True)
class TraceStart:
    """Origin of a run's time line, by the clocks of the process that opened the run. Picklable."""

    host: str
    """Identity of that process's clock."""
    clock_s: float
    """``time.perf_counter`` at the origin."""
    wall_s: float
    """``time.time`` at the origin."""

    @classmethod
    def now(cls) -> Self:
        """Read the clocks of this process now."""
        return cls(_host(), time.perf_counter(), time.time())

    def zero(self) -> tuple[float, str]:
        """Reading of this process's ``time.perf_counter`` at the origin, and the clock it is known by."""
        if _host() == self.host:
            return self.clock_s, "clock"
        return time.perf_counter() - (time.time() - self.wall_s), "wall clock"
