"""What memory there is, and refusals of what cannot fit into it, before anything is allocated.

Estimates are lower bounds: what is refused could not have run. Beyond them a run may still be killed by the system.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil

from pipeline.errors import ConfigError

__all__ = ["available_bytes", "check_room"]

_CGROUPS = Path("/sys/fs/cgroup")
_FILES = {"memory.max": "memory.current", "memory.limit_in_bytes": "memory.usage_in_bytes"}
"""Limit and usage of a control group, in the system's two versions."""
_CACHE = ("inactive_file ", "total_inactive_file ")
"""Lines of ``memory.stat`` about memory that counts as used and is given up on demand."""


def available_bytes(cgroups: Path = _CGROUPS, own: Path = Path("/proc/self/cgroup")) -> int:
    """Memory that this process can still get: the host's, or its control group's where that allows less."""
    free = int(psutil.virtual_memory().available)
    for folder in _groups(cgroups, own):
        for limit, usage in _FILES.items():
            allowed, used = _number(folder / limit), _number(folder / usage)
            if allowed is not None and used is not None:
                free = min(free, max(0, allowed - used + _cached(folder)))
    return free


def _groups(cgroups: Path, own: Path) -> Iterator[Path]:
    """Folders of this process's control groups for memory, and of those around them: every limit counts."""
    try:
        lines = own.read_text(encoding="utf8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = (line.split(":", 2) + ["", ""])[:3]
        root = cgroups if not controllers else cgroups / "memory"
        if not controllers or "memory" in controllers.split(","):
            inner = root / path.lstrip("/")
            yield from (folder for folder in (inner, *inner.parents) if folder.is_relative_to(root))


def _number(path: Path) -> int | None:
    """The number in a file; None where there is no file, or no number (``max``)."""
    try:
        return int(path.read_text(encoding="utf8"))
    except (OSError, ValueError):
        return None


def _cached(folder: Path) -> int:
    """Bytes of the group that are file cache."""
    try:
        lines = (folder / "memory.stat").read_text(encoding="utf8").splitlines()
    except OSError:
        return 0
    return max((int(line.split()[1]) for line in lines if line.startswith(_CACHE)), default=0)


def check_room(parts: Mapping[str, int], advice: str, available: int | None = None, where: str = "here") -> None:
    """Refuse what cannot fit.

    Args:
        parts: bytes at least needed, by what they are for.
        advice: the next move, a sentence.
        available: bytes there are; by default what this process can still get.
        where: behind them in the message.

    Raises:
        ConfigError: the parts are more than there is.
    """
    there, needed = available_bytes() if available is None else available, sum(parts.values())
    if needed > there:
        largest = sorted(parts.items(), key=lambda part: -part[1])
        figures = ", ".join(f"{spell(size)} {what}" for what, size in largest if size >= max(1, needed // 100))
        raise ConfigError(
            f"this does not fit into memory (given: at least {spell(needed)}, of that {figures}; expected: at most "
            f"{spell(there)}, what there is {where}). {advice}"
        )


def spell(num_bytes: int) -> str:
    """``3.4 GiB``, ``12 MiB``."""
    unit, name = (2**30, "GiB") if num_bytes >= 2**30 else (2**20, "MiB")
    value = num_bytes / unit
    return f"{value:.0f} {name}" if value >= 100 else f"{value:.2g} {name}"
