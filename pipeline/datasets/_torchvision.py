"""Downloads missing files of a known data set through torchvision.

torchvision knows the addresses and checksums, so it does the downloading. Reading the files is left to the few lines
of numpy beside this file: importing torchvision takes longer (1.1 s measured) than reading MNIST (0.03 s), every
process that loads data would pay for it, and some installations cannot import it at all.
"""

import contextlib
import fcntl
import io
import logging
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.data.torchvision_import import torchvision_datasets
from pipeline.errors import ConfigError

__all__ = ["ensure", "missing", "remedy"]

_log = logging.getLogger(__name__)
_TIMEOUT_S = 10.0


def missing(files: Sequence[Path]) -> list[Path]:
    """Paths in ``files`` at which there is no file."""
    return [file for file in files if not file.is_file()]


def remedy(folder: Path) -> str:
    """Next move for an error message about a file with wrong contents."""
    return f"Delete {folder} and let it be downloaded again."


def ensure(
    name: str,
    files: Sequence[Path],
    *,
    root: Path,
    class_name: str,
    splits: Sequence[Mapping[str, Any]],
    download: bool,
) -> None:
    """Download the missing ones of ``files``, if that is allowed.

    Args:
        name: name of the data set in a config.
        files: files that the data set needs.
        root: folder of all data sets.
        class_name: name of the class in ``torchvision.datasets``.
        splits: keyword arguments of each call of that class, which downloads when it is called.
        download: False only checks.

    Raises:
        ConfigError: a file is missing and could not be downloaded.
    """
    if not missing(files):
        return
    for file in files:
        if file.exists() and not file.is_file():  # torchvision would try to read it, and wait for ever
            raise ConfigError(
                f"not a file of the data set {name} (given: {file}, expected: a regular file, and no folder, pipe or "
                "device). Move it away."
            )
    reason = "dataset.download is false"
    if download:
        reason = _download(name, files, root, class_name, splits)
    absent = missing(files)
    if absent:
        raise ConfigError(
            f"the data set {name} is not there (given: {reason}, expected: {_spell(absent, root)} in {root}). "
            "Copy the files there, name the folder that has them (--data-root or ONWARD_DATA), or choose a data set "
            "that needs no download: digits, signed_xor."
        )


def _spell(files: Sequence[Path], root: Path) -> str:
    names = [str(file.relative_to(root)) for file in files]
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def _download(
    name: str, files: Sequence[Path], root: Path, class_name: str, splits: Sequence[Mapping[str, Any]]
) -> str:
    """Try to download, and return the reason for the error message in case files are missing afterwards."""
    # A proxy's page or a full disk: the user's next move is the same, and the reason is quoted.
    try:
        datasets = torchvision_datasets()
        with _alone(root), _quietly():
            if missing(files):
                _log.info("downloading %s to %s, once", name, root)
                for options in splits:
                    getattr(datasets, class_name)(str(root), download=True, **options)
    except Exception as error:
        return f"the download failed, {type(error).__name__}: {' '.join(str(error).split())}"
    return "the download brought other files"


@contextlib.contextmanager
def _alone(root: Path) -> Iterator[None]:
    """Let one process of this host download at a time. The lock is released when its process ends in any way."""
    root.mkdir(parents=True, exist_ok=True)
    with (root / ".download.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Give sockets a timeout, which torchvision does not, and show its progress bar only at log level INFO."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_TIMEOUT_S)
    sink = io.StringIO()
    bar = sys.stderr if _log.isEnabledFor(logging.INFO) else sink
    try:
        with contextlib.redirect_stdout(sink), contextlib.redirect_stderr(bar):
            yield
    finally:
        socket.setdefaulttimeout(before)
