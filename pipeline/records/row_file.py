"""A file of rows that is appended to, and loses none while its disk is full or fails for a time."""

import logging
import os
from collections import deque
from contextlib import suppress
from pathlib import Path

from pipeline.records.files import reason

__all__ = ["LIMIT_BYTES", "RowFile"]

LIMIT_BYTES = 2**24
"""The most that is kept in memory of rows that cannot be written; then the oldest go."""

logger = logging.getLogger(__name__)


class RowFile:
    """Appends rows; each has left this process when :meth:`write` returns, unless the disk fails.

    A row that cannot be written, or only in part, is kept and goes on where it stopped as soon as the disk takes it.
    This is said once, and once more when all is written.

    Args:
        path: of the file; made, or appended to.
        limit_bytes: see :data:`LIMIT_BYTES`.

    Raises:
        OSError: the file cannot be opened.
    """

    def __init__(self, path: Path, limit_bytes: int = LIMIT_BYTES) -> None:
        self.spare: Path | None = None
        """Where :meth:`close` puts what the disk has not taken: the two files one after the other are the whole."""
        self._path = path
        self._limit = limit_bytes
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
        self.num_bytes = os.fstat(self._descriptor).st_size
        """Length of the file, with what is still to be written."""
        self._kept: deque[bytes] = deque()
        self._kept_bytes = 0
        self._is_torn = False
        self._num_lost = 0
        self._has_warned = False

    def write(self, row: str) -> None:
        """Appends a row, a line without its end. Never raises for the disk."""
        data = row.encode("utf8") + b"\n"
        self._kept.append(data)
        self._kept_bytes += len(data)
        self.num_bytes += len(data)
        self._empty(self._descriptor)

    def close(self) -> None:
        """Tries once more, puts what is left into :attr:`spare`, and closes the file."""
        self._empty(self._descriptor)
        with suppress(OSError):
            os.close(self._descriptor)
        if self._kept:
            where = self._to_spare()
            logger.warning("%d rows of %s are %s", len(self._kept) + self._num_lost, self._path, where)

    def _empty(self, descriptor: int) -> None:
        """Writes all that is kept, as far as the disk takes it."""
        try:
            while self._kept:
                self._write_first(descriptor)
        except OSError as error:
            self._complain(error)
            return
        if self._has_warned:
            logger.warning("%s is written again, %d rows are lost", self._path, self._num_lost)
            self._has_warned, self._num_lost = False, 0

    def _write_first(self, descriptor: int) -> None:
        """Writes the oldest row, or a part of it."""
        num_written = _write(descriptor, self._kept[0])
        rest = self._kept[0][num_written:]
        self._kept_bytes -= num_written
        self._is_torn = bool(rest)
        if rest:
            self._kept[0] = rest
        else:
            self._kept.popleft()

    def _complain(self, error: OSError) -> None:
        """Says once that rows are kept, and lets the oldest go where they are too many; a torn one is ended first."""
        if not self._has_warned:
            self._has_warned = True
            why = reason(error)
            logger.warning("cannot write %s (%s): its rows are kept in memory and tried again", self._path, why)
        while self._kept_bytes > self._limit and len(self._kept) > 1 + self._is_torn:
            oldest = len(self._kept[int(self._is_torn)])
            self._kept_bytes -= oldest
            self.num_bytes -= oldest
            del self._kept[int(self._is_torn)]
            self._num_lost += 1

    def _to_spare(self) -> str:
        """Writes what is kept into the spare file; returns where it is."""
        if self.spare is None:
            return "lost"
        try:
            self.spare.parent.mkdir(parents=True, exist_ok=True)
            with self.spare.open("ab") as file:
                file.writelines(self._kept)
        except OSError as error:
            return f"lost ({self.spare}: {reason(error)})"
        return f"in {self.spare}, {self._num_lost} of them lost"


def _write(descriptor: int, data: bytes) -> int:
    """Writes as much of ``data`` as the disk takes at once; returns how many bytes."""
    return os.write(descriptor, data)
