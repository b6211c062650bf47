"""Base of the two ends of an edge over shared slots, and the format of the tokens on their Unix socket.

    sender                                                  receiver
    copies into slot k, sends a token      --- token ---->  wakes, copies out of slot k
    counts slot k as free again            <-- credit ----  one byte per slot

Slots are used in turn, so neither token nor credit names one. A token is the length of the header, the bytes of the
payload, and the header; it wakes the reader inside the kernel, without a thread and without spinning. The socket's
end of file means that the other process is gone, however it died; what it had sent before can still be read.

A message larger than a slot goes through several, one after another, and is put together by the receiver: correct at
any depth, with two more copies. When the sender runs out of time in the middle, its next message begins with a header
again, and the receiver forgets the half it has.
"""

import ctypes
import socket
import struct

from workers.transport import Edge
from workers.transports._slots.ring import Slots

__all__ = ["MORE", "TOKEN", "SlotEnd", "copy_bytes"]

TOKEN = struct.Struct("<IQ")  # bytes of the header, bytes of the packed payload
MORE = TOKEN.pack(0, 0)  # the next piece of a message larger than a slot
# (to address, from address, bytes). A quarter of the time of tensor.copy_ at 4 KiB, the same at 8 MiB.
copy_bytes = ctypes.memmove

_TIMEVAL = struct.Struct("ll")
_READ_BYTES = 65536


class SlotEnd:
    """Base of a shared-memory sender or receiver: its Unix socket and its mapped slots."""

    def __init__(self, edge: Edge, sock: socket.socket, slots: Slots) -> None:
        self._edge, self._sock, self._slots = edge, sock, slots
        self._count = len(slots.addresses)
        self._next = 0
        self._patience = -1.0

    @property
    def num_bytes(self) -> int:
        """Memory of the slots in bytes."""
        return self._slots.num_bytes

    def _allow(self, timeout: float) -> None:
        """Let the kernel end blocking calls after ``timeout`` seconds: one system call less than ``settimeout``."""
        if timeout != self._patience:
            value = _TIMEVAL.pack(*divmod(max(int(timeout * 1e6), 1), 1_000_000))  # zero would mean for ever
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, value)
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, value)
            self._patience = timeout

    def _read(self, flags: int = 0) -> bytes:
        """Read at least one byte from the other end; ConnectionResetError when it is gone."""
        data = self._sock.recv(_READ_BYTES, flags)
        if not data:
            raise ConnectionResetError("end of file")
        return data

    def close(self) -> None:
        """Close the socket and unmap the memory."""
        self._sock.close()
        self._slots.close()
