"""The origin of a run's time line, and what the clock of any process of the run showed then."""

import platform
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self

__all__ = ["TraceStart"]

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def _host() -> str:
    """The same for processes that share a clock, and for no others: names of hosts may repeat."""
    try:
        return f"{platform.node()} {_BOOT_ID.read_text(encoding='ascii').strip()}"
    except OSError:
        return platform.node()


@dataclass(frozen=True)
class TraceStart:
    """The origin of a run's time line, as the process that opened the run saw it. Picklable."""

    host: str
    clock_s: float
    wall_s: float

    @classmethod
    def now(cls) -> Self:
        """Here and now."""
        return cls(_host(), time.perf_counter(), time.time())

    def zero(self) -> tuple[float, str]:
        """This process's clock at the origin, and the source of that."""
        if _host() == self.host:
            return self.clock_s, "clock"
        return time.perf_counter() - (time.time() - self.wall_s), "wall clock"
