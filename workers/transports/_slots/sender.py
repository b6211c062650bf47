"""The sending end of an edge over shared slots."""

import socket

import torch
from torch import Tensor

from pipeline.engine.message import Message, encode_header
from workers.transport import Edge
from workers.transports._errors import gone, no_room
from workers.transports._packing import is_plain, pack, packed_bytes, padded
from workers.transports._slots.end import MORE, TOKEN, SlotEnd, copy_bytes
from workers.transports._slots.ring import Slots
from workers.transports._sockets.backlog import Backlog
from workers.transports._sockets.credits import CreditsTaken

__all__ = ["SlotSender"]


class SlotSender(SlotEnd, CreditsTaken):
    """The sending end of ``edge``.

    Args:
        edge: whose receiver is at the other end of ``sock``.
        sock: connected and blocking.
        slots: as the receiver maps them.
    """

    def __init__(self, edge: Edge, sock: socket.socket, slots: Slots) -> None:
        super().__init__(edge, sock, (socket.SO_RCVTIMEO,), len(slots.addresses))
        self._slots, self._next = slots, 0
        self._backlog = Backlog(edge, sock)

    def send(self, message: Message, timeout: float) -> float:
        """See :meth:`Transport.send`."""
        header = encode_header(message)
        total = packed_bytes(message.tensors)
        token = TOKEN.pack(len(header), total) + header
        try:
            if total > self._slots.stride:
                return self._send_pieces(token, message, total, timeout)
            waited = 0.0 if self._free else self._wait_room(timeout)
            self._copy_in(message.tensors)
            self._tell(token)
        except BlockingIOError:
            raise no_room(self._edge, timeout) from None
        except ConnectionError as error:
            raise gone(self._edge, self._edge.dst) from error
        return waited

    def _copy_in(self, tensors: tuple[Tensor, ...]) -> None:
        """Copy ``tensors`` into the next slot, each at a multiple of 64 bytes."""
        address, start = self._slots.addresses[self._next], 0
        for tensor in tensors:
            num_bytes = tensor.nbytes
            if is_plain(tensor):
                copy_bytes(address + start, tensor.data_ptr(), num_bytes)
            else:
                pack((tensor,), self._slots.part(self._next, start, num_bytes))
            start += padded(num_bytes)

    def _send_pieces(self, token: bytes, message: Message, total: int, timeout: float) -> float:
        """Send a message larger than a slot, piece by piece; returns the seconds spent waiting for room."""
        packed = torch.empty(total, dtype=torch.uint8)
        pack(message.tensors, packed)
        waited = 0.0
        for start in range(0, total, self._slots.stride):
            waited += 0.0 if self._free else self._wait_room(timeout - waited)
            num_bytes = min(self._slots.stride, total - start)
            copy_bytes(self._slots.addresses[self._next], packed.data_ptr() + start, num_bytes)
            self._tell(MORE if start else token)
        return waited

    def _tell(self, token: bytes) -> None:
        """Send the token of the next slot. Never blocks: behind hundreds of unread tokens a thread sends it."""
        if len(self._backlog):
            self._backlog.put(token)
        elif (sent := self._send_now(token)) < len(token):
            self._backlog.put(token[sent:])
        self._free -= 1
        self._next = (self._next + 1) % self._count

    def _send_now(self, token: bytes) -> int:
        """Send what the kernel takes of a token at once; returns its bytes."""
        self._backlog.check()
        try:
            return self._sock.send(token, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return 0

    def close(self) -> None:
        """Close the socket, under the thread too, and unmap the memory."""
        self._backlog.close()
        super().close()
