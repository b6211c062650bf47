"""Standard output and error that nobody reads, that are closed, full, or stopped (Ctrl-S): none of it holds up a run.

What is shown while a run goes on is written by a thread of its own, straight to the descriptor. A thread that is held
up in the system then holds no lock of Python's, and the process can end beside it.
"""

import errno
import io
import logging
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

__all__ = [
    "PatientFile", "complain", "discard", "drained", "end_output", "line_writer", "open_standard_streams", "patient",
    "warnings_on_stderr",
]  # fmt: skip

CLOSING_S = 1.0
"""Longest wait for a reader at the end."""
MOST_PENDING = 256
"""Pieces of text, a line or a drawing of the table each, that wait to be written."""


class PatientFile(io.TextIOBase):
    """A text file whose :meth:`write` never waits; a thread writes, as fast as the reader reads.

    Where more waits than ``most`` pieces, the oldest is dropped, but for the very first, which says what runs: what
    comes last, the result, is always kept. Errors of the reader, once it is gone, are not raised.

    Args:
        descriptor: where to write; stays open.
        encoding: of the text.
        most: pieces that wait; None for any number.
    """

    def __init__(self, descriptor: int, encoding: str = "utf8", most: int | None = MOST_PENDING) -> None:
        self._descriptor = descriptor
        self._encoding = encoding
        self._most = most
        self._pending: deque[str] = deque()
        self._changed = threading.Condition()
        self._is_writing = self._is_gone = False
        self._thread: threading.Thread | None = None

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """Of the text."""
        return self._encoding

    def fileno(self) -> int:
        """The descriptor."""
        return self._descriptor

    def isatty(self) -> bool:
        """Whether a terminal reads."""
        return os.isatty(self._descriptor)

    def writable(self) -> bool:
        """True."""
        return True

    def write(self, text: str) -> int:
        """Hand ``text`` to the thread; returns its length at once."""
        with self._changed:
            if text and not self._is_gone:
                self._pending.append(text)
                if self._most is not None and len(self._pending) > self._most:
                    del self._pending[1]
                if self._thread is None:
                    self._thread = threading.Thread(target=self._run, name="output", daemon=True)
                    self._thread.start()
                self._changed.notify_all()
        return len(text)

    def drain(self, timeout: float = CLOSING_S) -> bool:
        """Wait until everything is written, ``timeout`` seconds at most; False where something is left."""
        with self._changed:
            return self._changed.wait_for(lambda: self._is_gone or not (self._pending or self._is_writing), timeout)

    def _run(self) -> None:
        """Body of the thread."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: bool(self._pending))
                text, self._is_writing = self._pending.popleft(), True
            try:
                _write_all(self._descriptor, text.encode(self._encoding, "backslashreplace"))
            except OSError:
                self._is_gone = True
            with self._changed:
                self._is_writing = False
                if self._is_gone:
                    self._pending.clear()
                self._changed.notify_all()
                if self._is_gone:
                    return


def _write_all(descriptor: int, data: bytes) -> None:
    """Write all of ``data``, however long that takes, also where another program has made the terminal's descriptor
    non-blocking."""
    while data:
        try:
            data = data[os.write(descriptor, data) :]
        except BlockingIOError:
            time.sleep(0.02)


def patient(stream: TextIO, most: int | None = MOST_PENDING) -> TextIO:
    """A :class:`PatientFile` in place of ``stream``; ``stream`` itself where it has no descriptor."""
    try:
        stream.flush()
        descriptor = stream.fileno()
    except (OSError, ValueError):  # io.UnsupportedOperation is both
        return stream
    return PatientFile(descriptor, stream.encoding or "utf8", most)  # type: ignore[return-value]  # a TextIO to use


def drained(stream: object) -> bool:
    """Wait a second at most until everything is written that was written to ``stream``; False where something is left.

    Args:
        stream: what :func:`patient` returned.
    """
    return stream.drain() if isinstance(stream, PatientFile) else True


def discard(stream: TextIO) -> None:
    """Send what ``stream`` still buffers to nowhere, when its reader is gone (``| head``) or the disk is full.

    What is done goes on, and the buffer must not turn the exit status into a failure.
    """
    with suppress(OSError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def line_writer(*, quiet: bool) -> Callable[[str], None]:
    """What writes a line to standard output at once, as long as somebody reads it: who leaves behind files, and says
    beside it how far they are, goes on without a reader.

    Args:
        quiet: no line is written.
    """
    is_read = not quiet

    def say(line: str) -> None:
        """Writes one."""
        nonlocal is_read
        if not is_read:
            return
        try:
            sys.stdout.write(f"{line}\n")
            sys.stdout.flush()
        except BrokenPipeError:
            discard(sys.stdout)
            is_read = False

    return say


@contextmanager
def warnings_on_stderr(quiet: bool) -> Iterator[None]:
    """What loggers say goes to standard error, where nobody waits for it but at the end of the block: a process that
    ended at once would take the last of it along.

    Args:
        quiet: errors alone, and no warnings.
    """
    said = patient(sys.stderr, most=None)
    logging.basicConfig(level=logging.ERROR if quiet else logging.WARNING, format="%(message)s", stream=said)
    try:
        yield
    finally:
        drained(said)


def complain(text: str) -> None:
    """Write one line to standard error, where there is one and somebody reads it."""
    stream = patient(sys.stderr, most=None)
    with suppress(OSError, ValueError):
        stream.write(f"{text}\n")
    drained(stream)


def open_standard_streams() -> None:
    """Give closed standard streams to nowhere: a file that is opened later must not become one of them. What a stream
    cannot encode is escaped."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    sys.stdout = sys.stdout or open(1, "w", closefd=False)
    sys.stderr = sys.stderr or open(2, "w", closefd=False)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def end_output() -> str | None:
    """Write what standard output still buffers; the reason where that fails. A reader that has seen enough (``| head``)
    is no failure."""
    try:
        sys.stdout.flush()
        return None
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the interpreter flushes again, at its end
        return None if error.errno == errno.EPIPE else error.strerror
