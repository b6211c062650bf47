"""Base of the two ends of an edge over shared slots, and the format of the tokens on their Unix socket.

    sender                                                  receiver
    copies into slot k, sends a token      --- token ---->  wakes, copies out of slot k
    counts slot k as free again            <-- credit ----  one byte per slot

Slots are used in turn, so neither token nor credit names one. A token is the length of the header, the bytes of the
payload, and the header; it wakes the reader inside the kernel, without a thread and without spinning. The socket's
end of file means that the other process is gone, however it died; what it had sent before can still be read.

Slots alone bound what is under way. A socket holds a few hundred unread tokens at most, fewer long ones: what it does
not take at once is left to a thread, so that two which both send before they read cannot lock up.

A message larger than a slot goes through several, one after another, and is put together by the receiver: correct at
any depth, with two more copies. When the sender runs out of time in the middle, its next message begins with a header
again, and the receiver forgets the half it has.
"""

import ctypes
import socket

from workers.transports._slots.ring import Slots
from workers.transports._sockets.end import TOKEN, SocketEnd

__all__ = ["BOTH_WAYS", "MORE", "TOKEN", "SlotEnd", "copy_bytes"]

MORE = TOKEN.pack(0, 0)  # the next piece of a message larger than a slot
BOTH_WAYS = (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO)
# (to address, from address, bytes). A quarter of the time of tensor.copy_ at 4 KiB, the same at 8 MiB.
copy_bytes = ctypes.memmove


class SlotEnd(SocketEnd):
    """Mixed into both ends: the mapped slots beside the Unix socket."""

    _slots: Slots
    _next: int

    @property
    def num_bytes(self) -> int:
        """Memory of the slots in bytes."""
        return self._slots.num_bytes

    def close(self) -> None:
        """Close the socket and unmap the memory."""
        super().close()
        self._slots.close()
