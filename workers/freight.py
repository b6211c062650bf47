"""Files of stages on other hosts, brought to rank 0 in pieces, over a line of their own beside the line for reports.

    stage                                           rank 0
    {"put": name, "place": 0}     ------------->    opens a part of the file, in the run's folder or its second place
    pieces of at most 256 KiB     ------------->    writes them
    nothing, {"bytes", "crc32"}   ------------->    compares, and gives the file its name
                                  <-------------    {"path": ...} or {"error": ...}
    {"get": name}                 ------------->
                                  <-------------    pieces, nothing, {"bytes", "crc32"} or {"error": ...}

One file at a time: what is under way is a piece, and what the sockets hold. Which files there are is known beforehand,
so that no stage can name another one.
"""

import json
import logging
import os
import re
import socket
import threading
import time
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from pipeline.records.files import reason, whole_file

__all__ = ["Damaged", "FreightDesk", "Unreadable", "get_file", "put_file"]

_PIECE_BYTES = 2**18
_TABLE_BYTES = 4096
_CLOSE_S = 5.0
_NAMES = re.compile(r"(snapshots/step-\d+|measurements/epoch-\d+)/block-\d+\.safetensors|trace-stage-\d+\.part")
_INITIAL = re.compile(r"initial/(block-\d+\.safetensors)")
"""Of another run, whose trained blocks this one starts from."""

logger = logging.getLogger(__name__)


class Damaged(OSError):
    """A file that has arrived is not what was sent."""


class Unreadable(OSError):
    """A file cannot be read where it is to be sent."""


def put_file(connection: Connection, path: Path, name: str, place: int = 0) -> Path:
    """Brings a file to rank 0; returns its path there.

    Args:
        connection: to rank 0's :class:`FreightDesk`.
        path: of the file here.
        name: relative to the run's folder.
        place: 0 for the run's folder, 1 for its second place.

    Raises:
        Unreadable: it cannot be read here.
        Damaged: what has arrived is something else.
        OSError: it cannot be written there, or rank 0 is gone, or says what cannot be read.
    """
    _tell(connection, {"put": name, "place": place})
    trouble = _send(connection, path)
    try:
        answer = _table(connection)
        if trouble is not None:
            raise Unreadable(trouble)
        if "error" in answer:
            raise (Damaged if answer.get("damaged") is True else OSError)(answer["error"])
        return Path(answer["path"])
    except EOFError:
        raise _lost() from None
    except (ValueError, KeyError, TypeError) as error:
        raise _garbled(error) from None


def get_file(connection: Connection, name: str, path: Path) -> None:
    """Fetches a file of the run's folder on rank 0's host to ``path``, or one of ``initial``.

    Raises:
        OSError: it cannot be read there or written here, or rank 0 is gone, or says what cannot be read.
    """
    _tell(connection, {"get": name})
    try:
        _receive(connection, path)
    except EOFError:
        raise _lost() from None
    except ValueError as error:
        raise _garbled(error) from None


class FreightDesk:
    """Rank 0's end of all these lines, with a thread for each.

    Args:
        connections: to the stages of other hosts.
        places: the run's folder, and its second place.
        initial: the folder of the trained blocks that the run starts from; None where it draws its weights.
    """

    def __init__(
        self, connections: Iterable[Connection], places: Sequence[Path], initial: Path | None = None
    ) -> None:
        self._connections = list(connections)
        self._places = places
        self._initial = initial
        self._threads = [
            threading.Thread(target=self._serve, args=(connection,), name="freight", daemon=True)
            for connection in self._connections
        ]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Waits for the stages to hang up, not for long, and closes the lines."""
        deadline = time.monotonic() + _CLOSE_S
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        for thread, connection in zip(self._threads, self._connections, strict=True):
            # A line is not closed under its thread, which might then read what next gets the number of its file.
            with suppress(OSError), socket.socket(fileno=os.dup(connection.fileno())) as sock:
                sock.shutdown(socket.SHUT_RDWR)
            thread.join(_CLOSE_S)
            connection.close()

    def _serve(self, connection: Connection) -> None:
        """Body of a line's thread: until the stage hangs up, or says what is none of its business."""
        try:
            while True:
                request = _table(connection)
                if "get" in request:
                    _send(connection, self._asked(request["get"]))
                else:
                    _tell(connection, self._take(connection, self._path(request["put"], request["place"])))
        except (EOFError, OSError):
            return
        except (ValueError, KeyError, TypeError, IndexError) as error:
            logger.warning("a stage on another host said what cannot be read (%s: %s)", type(error).__name__, error)
            with suppress(OSError):
                connection.close()

    def _take(self, connection: Connection, path: Path) -> dict[str, Any]:
        """Writes a file that comes, and says where, or why not."""
        try:
            _receive(connection, path)
        except EOFError:
            raise
        except OSError as error:
            return {"error": f"{path}: {reason(error)}", "damaged": isinstance(error, Damaged)}
        return {"path": str(path)}

    def _asked(self, name: str) -> Path:
        """Where a file lies that a stage begins with; ValueError for one that no stage has."""
        if self._initial is not None and (found := _INITIAL.fullmatch(name)) is not None:
            return self._initial / found[1]
        return self._path(name, 0)

    def _path(self, name: str, place: int) -> Path:
        """Where a file lies; ValueError for one that no stage has."""
        if not _NAMES.fullmatch(name):
            raise ValueError(f"no file of a stage: {name!r}")
        return self._places[place] / name


def _send(connection: Connection, path: Path) -> str | None:
    """Sends the pieces of a file, and its checksum or why it cannot be read; returns the latter."""
    crc = size = 0
    read, trouble = _read(path), None
    while True:
        try:
            piece = next(read, b"")
        except OSError as error:
            piece, trouble = b"", f"{path}: {reason(error)}"
        connection.send_bytes(piece)
        if not piece:
            break
        crc, size = zlib.crc32(piece, crc), size + len(piece)
    _tell(connection, {"error": trouble} if trouble is not None else {"bytes": size, "crc32": crc})
    return trouble


def _read(path: Path) -> Iterator[bytes]:
    """The pieces of a file on the disk."""
    with path.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            yield piece


def _receive(connection: Connection, path: Path) -> None:
    """Writes the file that comes; it is read to its end whatever the disk says.

    Raises:
        Damaged: it is not what was sent.
        OSError: it cannot be written here or read there.
        EOFError: the other side is gone.
        ValueError: it says what cannot be read.
    """
    pieces = _pieces(connection)
    try:
        with whole_file(path, durable=True) as part, part.open("wb") as file:
            for piece in pieces:
                file.write(piece)
    except OSError:
        with suppress(OSError):  # it has come to its end, and was damaged
            for _ in pieces:
                pass
        raise


def _pieces(connection: Connection) -> Iterator[bytes]:
    """The pieces of a file that comes; see :func:`_receive` for what is raised at its end."""
    crc = size = 0
    while piece := connection.recv_bytes(_PIECE_BYTES):
        crc, size = zlib.crc32(piece, crc), size + len(piece)
        yield piece
    last = _table(connection)
    if "error" in last:
        raise OSError(last["error"])
    if last != {"bytes": size, "crc32": crc}:
        raise Damaged(f"the file was damaged on its way ({size} bytes, checksum {crc:08x}; sent: {last})")


def _lost() -> OSError:
    """Rank 0 has hung up."""
    return ConnectionResetError("rank 0 takes no files any more")


def _garbled(error: Exception) -> OSError:
    """Rank 0 speaks another language."""
    return OSError(f"rank 0 said what cannot be read ({type(error).__name__}: {error})")


def _tell(connection: Connection, table: dict[str, Any]) -> None:
    """Sends a table."""
    connection.send_bytes(json.dumps(table).encode("utf8"))


def _table(connection: Connection) -> dict[str, Any]:
    """Waits for a table. Raises ValueError for anything else, EOFError and OSError where the other side is gone."""
    table = json.loads(connection.recv_bytes(_TABLE_BYTES))
    if not isinstance(table, dict):
        raise ValueError(f"not a table: {table!r}")
    return table
