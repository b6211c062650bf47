"""One end of an edge that is, or is accompanied by, a socket."""

import socket
import struct

from workers.transport import Edge

__all__ = ["TOKEN", "SocketEnd"]

TOKEN = struct.Struct("<IQ")
"""Before every message: bytes of the header, bytes of the packed payload."""

_TIMEVAL = struct.Struct("ll")
_READ_BYTES = 65536


class SocketEnd:
    """Base of both ends.

    Args:
        edge: whose other end is at the other end of ``sock``.
        sock: connected and blocking.
        limited: the directions in which a wait has an end, of ``SO_RCVTIMEO`` and ``SO_SNDTIMEO``.
    """

    def __init__(self, edge: Edge, sock: socket.socket, limited: tuple[int, ...]) -> None:
        self._edge, self._sock, self._limited = edge, sock, limited
        self._patience = -1.0

    def _allow(self, timeout: float) -> None:
        """Let the kernel end blocking calls after ``timeout`` seconds: one system call less than ``settimeout``."""
        if timeout != self._patience:
            value = _TIMEVAL.pack(*divmod(max(int(timeout * 1e6), 1), 1_000_000))  # zero would mean for ever
            for direction in self._limited:
                self._sock.setsockopt(socket.SOL_SOCKET, direction, value)
            self._patience = timeout

    def _read(self, flags: int = 0) -> bytes:
        """Read at least one byte from the other end; ConnectionResetError when it is gone."""
        data = self._sock.recv(_READ_BYTES, flags)
        if not data:
            raise ConnectionResetError("end of file")
        return data

    def close(self) -> None:
        """Close the socket."""
        self._sock.close()
