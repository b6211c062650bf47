"""The folder of a run's files: found free, made under a name of its own, and claimed for as long as the run goes on."""

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from itertools import count
from pathlib import Path

from pipeline.errors import ConfigError

__all__ = ["check_out", "claimed", "dated", "named_or_new", "new_out_folder", "unusable"]


def check_out(out: Path) -> None:
    """Refuses a folder that holds anything: a run is never overwritten.

    Raises:
        ConfigError: it does, or is a file.
    """
    try:
        is_taken = out.exists() and (not out.is_dir() or any(out.iterdir()))
    except (OSError, ValueError) as error:  # a folder above it that must not be read, a name that is too long
        raise unusable(out, error) from None
    if is_taken:
        raise ConfigError(
            f"the output folder is taken (given: {out}, expected: a new or empty folder). Choose another --out."
        )


def dated(folder: Path, name: str) -> Path:
    """A folder in ``folder`` that is named for what runs in it, and for this second."""
    return folder / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"


def named_or_new(named: str | Path | None, folder: Path, name: str) -> AbstractContextManager[Path]:
    """The folder that was named, else a new one in ``folder`` for ``name``, see :func:`dated`."""
    return nullcontext(Path(named)) if named is not None else new_out_folder(dated(folder, name))


def unusable(out: Path, error: OSError | ValueError) -> ConfigError:
    """What to tell the user about a folder that the system refuses."""
    why = error.strerror if isinstance(error, OSError) else str(error)
    return ConfigError(f"cannot write to the output folder (given: {out}, {why}). Choose another --out.")


@contextmanager
def new_out_folder(wanted: Path) -> Iterator[Path]:
    """Makes a folder that no other run has, ``wanted`` or with a number behind it; removed again where it stays empty.

    Raises:
        ConfigError: the system refuses it.
    """
    try:
        wanted.parent.mkdir(parents=True, exist_ok=True)
        out = _made(wanted)
    except OSError as error:
        raise unusable(wanted, error) from None
    try:
        yield out
    finally:
        with suppress(OSError):  # a run is in it
            out.rmdir()


def _made(wanted: Path) -> Path:
    """The folder, made in one step: another run may look for a name in the same moment."""
    for number in count(1):
        out = wanted if number == 1 else wanted.with_name(f"{wanted.name}-{number}")
        with suppress(FileExistsError):
            out.mkdir()
            break
    return out


@contextmanager
def claimed(out: Path, *, is_new: bool) -> Iterator[None]:
    """Makes ``out`` and holds it: of two runs that start at once with the same folder, one gets it.

    The system takes the claim back when this process ends, however it does. Where it cannot claim a folder (some
    network file systems), nothing is held.

    Args:
        out: the folder.
        is_new: whether it must be empty, as it must not be for a run that is taken up.

    Raises:
        ConfigError: another run has it or had it, or the system refuses it.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        folder = os.open(out, os.O_RDONLY | os.O_DIRECTORY)
    except (OSError, ValueError) as error:
        raise unusable(out, error) from None
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EACCES):
                raise ConfigError(
                    f"another run writes to the output folder (given: {out}, expected: a folder of its own). Choose "
                    "another --out, or wait for that run."
                ) from None
        if is_new:
            check_out(out)
        yield
    finally:
        os.close(folder)
