"""Temporary folders that name their owner, so that the next start can remove what a killed one has left.

Each holds a file with the identity of the process that made it. A folder is removed only when it is this user's,
its owner was a process of this host and this container, and that process is gone.
"""

import json
import logging
import os
import shutil
import stat
import tempfile
from contextlib import suppress
from multiprocessing import util
from pathlib import Path

from workers.host.identity import ProcessIdentity

__all__ = ["claim_server_folder", "new_folder", "remove_orphans"]

_OWNER = "owner.json"
_PREFIXES = ("onward-", "pymp-")
"""Of the folders of runs, and of those in which ``multiprocessing`` keeps the socket of its fork server."""

logger = logging.getLogger(__name__)


def new_folder() -> Path:
    """A new folder for sockets and rendezvous files, readable by this user only.

    Its path is short, as those of Unix sockets must be, so it is not inside the run's own folder.
    """
    folder = Path(tempfile.mkdtemp(prefix="onward-"))
    _claim(folder)
    return folder


def claim_server_folder() -> None:
    """Note this process as the owner of its folder of ``multiprocessing``, which only an orderly end removes."""
    folder = Path(util.get_temp_dir())
    if not (folder / _OWNER).exists():  # a child has its parent's folder, and leaves it to it
        _claim(folder)


def _claim(folder: Path) -> None:
    """Note this process as the owner."""
    with suppress(OSError):  # a full disk: the folder is removed at an orderly end all the same
        (folder / _OWNER).write_text(json.dumps(ProcessIdentity.own().to_table()), encoding="utf8")


def remove_orphans() -> list[Path]:
    """Remove what dead processes of this user have left, and return it. Never raises: a start must not fail for it."""
    removed = []
    for folder in _candidates(Path(tempfile.gettempdir())):
        owner = _owner_of(folder)
        if owner is not None and owner.is_here and not owner.is_alive:
            shutil.rmtree(folder, ignore_errors=True)
            removed.append(folder)
            logger.debug("removed %s, left by process %d", folder, owner.pid)
    return removed


def _candidates(root: Path) -> list[Path]:
    """Folders of this user with a name of ours; links are no folders."""
    found = []
    with suppress(OSError), os.scandir(root) as entries:
        for entry in entries:
            if entry.name.startswith(_PREFIXES) and entry.is_dir(follow_symlinks=False):
                with suppress(OSError):
                    if entry.stat(follow_symlinks=False).st_uid == os.getuid():
                        found.append(Path(entry.path))
    return found


def _owner_of(folder: Path) -> ProcessIdentity | None:
    """The owner that a folder names, if any."""
    path = folder / _OWNER
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            return None
        return ProcessIdentity.from_table(json.loads(path.read_text(encoding="utf8")))
    except (OSError, ValueError):
        return None
