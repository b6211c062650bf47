"""Limits of the system that a run with many stages meets: open files, and the length of a Unix socket's path."""

import os
import resource
import tempfile
from pathlib import Path

from pipeline.errors import ConfigError

__all__ = ["check_open_files", "ensure_short_paths", "raise_open_files"]

FOLDER_BYTES = 64
"""Of the path of the folder for temporary files. A socket's path has 104 bytes or more, and ours are named
``onward-<8>/<stage>-<stage>``, those of multiprocessing ``pymp-<8>/listener-<8>``."""
FILES_PER_STAGE = 3
"""Descriptors that this process has for each stage: its line, and two by which multiprocessing watches it."""
SPARE_FILES = 24
"""For what opens files beside the stages: modules, the record, the fork server."""
_ENOUGH = 65_536


def raise_open_files() -> None:
    """Let this process, and those that it starts, open as many files as the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _ENOUGH if hard == resource.RLIM_INFINITY else min(hard, _ENOUGH)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def check_open_files(num_stages: int) -> None:
    """Refuse more stages than this process may have open files for.

    Raises:
        ConfigError: it may not.
    """
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = FILES_PER_STAGE * num_stages + _open_files() + SPARE_FILES
    if allowed != resource.RLIM_INFINITY and needed > allowed:
        raise ConfigError(
            f"too few files may be open for so many stages (given: {num_stages} stages, ulimit -n {allowed}; expected: "
            f"at least {needed}). Raise it with ulimit -n, or lower --stages."
        )


def _open_files() -> int:
    """Descriptors that this process has open, where the system tells it."""
    try:
        return len(os.listdir("/proc/self/fd"))
    except OSError:
        return 3


def ensure_short_paths() -> None:
    """Put temporary files where the paths of Unix sockets fit, if they do not where TMPDIR says.

    Raises:
        ConfigError: no folder has a path that is short enough and can be written.
    """
    given = tempfile.gettempdir()
    if len(os.fsencode(given)) <= FOLDER_BYTES:
        return
    for folder in ("/tmp", "/var/tmp", "/dev/shm"):
        if Path(folder).is_dir() and os.access(folder, os.W_OK | os.X_OK):
            tempfile.tempdir = folder
            return
    raise ConfigError(
        f"the folder for temporary files has too long a path for Unix sockets (given: {given}, "
        f"{len(os.fsencode(given))} bytes, expected: at most {FOLDER_BYTES}). Set TMPDIR to a shorter one."
    )
