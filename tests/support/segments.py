"""Shared memory that processes of the tests have left behind: in a folder that every program on the machine uses."""

from contextlib import suppress
from pathlib import Path

import psutil

__all__ = ["segments", "segments_left"]

FOLDER = Path("/dev/shm")


def segments():
    """The names of all segments there are; empty where segments are no files."""
    return {path.name for path in FOLDER.iterdir()} if FOLDER.is_dir() else set()


def segments_left(before):
    """New segments that nobody uses: what another program has made since is in use by it, or soon gone."""
    left = segments() - before
    if left:
        left -= {name for process in psutil.process_iter() for name in left if name in _used_by(process)}
    return sorted(left & segments())


def _used_by(process):
    """What a process maps or holds open, as one text; empty for one that has ended or is somebody else's."""
    folder, used = Path(f"/proc/{process.pid}"), ""
    with suppress(OSError):
        used = folder.joinpath("maps").read_text()
        for descriptor in (folder / "fd").iterdir():
            with suppress(OSError):  # a process that goes on may close one; it uses the others as before
                used += str(descriptor.readlink())
    return used
