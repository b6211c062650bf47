"""The receiving end of an edge over shared slots."""

import socket
import time
from collections import deque

import torch
from torch import Tensor

from pipeline.engine.message import Header, Message, decode_header
from workers.transport import Edge
from workers.transports._errors import gone, nothing_came
from workers.transports._packing import padded, unpack
from workers.transports._slots.end import BOTH_WAYS, TOKEN, SlotEnd, copy_bytes
from workers.transports._slots.ring import Slots
from workers.transports._sockets.credits import CreditsGiven

__all__ = ["SlotReceiver"]


class SlotReceiver(SlotEnd, CreditsGiven):
    """The receiving end of ``edge``.

    A message is copied out of its slot at once, so that tensors belong to the caller without any bookkeeping and the
    slot is free again before the caller uses them.

    Args:
        edge: whose sender is at the other end of ``sock``.
        sock: connected and blocking.
        slots: as the sender maps them.
        device: where the tensors are wanted.
    """

    def __init__(self, edge: Edge, sock: socket.socket, slots: Slots, device: torch.device) -> None:
        super().__init__(edge, sock, BOTH_WAYS)
        self._slots, self._next, self._count = slots, 0, len(slots.addresses)
        self._device = device
        self._rest = b""
        self._tokens: deque[tuple[int, bytes]] = deque()
        self._begun: tuple[Header, Tensor] | None = None
        self._have = 0

    def recv(self, timeout: float) -> tuple[Message, float]:
        """See :meth:`Transport.recv`. A message that is half here when time runs out is completed by the next call."""
        waited = 0.0
        try:
            while True:
                if not self._tokens:
                    waited += self._wait(timeout - waited)
                message = self._take(*self._tokens.popleft())
                if message is not None:
                    return message, waited
        except BlockingIOError:
            raise nothing_came(self._edge, timeout) from None
        except ConnectionError as error:
            raise gone(self._edge, self._edge.src) from error

    def _wait(self, timeout: float) -> float:
        """Block until there is a token; returns the seconds."""
        start = time.perf_counter()
        self._allow(timeout)
        while not self._tokens:
            self._parse(self._read())
        return time.perf_counter() - start

    def _parse(self, data: bytes) -> None:
        """Cut what was read into tokens."""
        data = self._rest + data
        start = 0
        while len(data) - start >= TOKEN.size:
            header_bytes, total = TOKEN.unpack_from(data, start)
            end = start + TOKEN.size + header_bytes
            if end > len(data):
                break
            self._tokens.append((total, data[start + TOKEN.size : end]))
            start = end
        self._rest = data[start:]

    def _take(self, total: int, header: bytes) -> Message | None:
        """Copy out the slot of a token; returns the message if this completes it."""
        if not header:
            return self._take_more()
        self._begun = None
        decoded = decode_header(header)
        if total > self._slots.stride:
            self._begun, self._have = (decoded, torch.empty(total, dtype=torch.uint8)), 0
            return self._take_more()
        tensors = self._copy_out(decoded)
        self._give_back()
        return decoded.message(tensors)

    def _copy_out(self, header: Header) -> tuple[Tensor, ...]:
        """Copy the tensors of a message out of the next slot."""
        if self._device.type != "cpu":
            slot = self._slots.part(self._next, 0, self._slots.stride)
            return tuple(t.to(self._device) for t in unpack(header.specs, slot))
        address = self._slots.addresses[self._next]
        tensors = []
        for spec in header.specs:
            tensor = torch.empty(spec.shape, dtype=spec.dtype)
            num_bytes = tensor.nbytes
            copy_bytes(tensor.data_ptr(), address, num_bytes)
            address += padded(num_bytes)
            tensors.append(tensor)
        return tuple(tensors)

    def _take_more(self) -> Message | None:
        """Copy out one piece of a message larger than a slot; returns the message if this completes it."""
        assert self._begun is not None  # a piece follows a beginning: the socket keeps the order
        header, buffer = self._begun
        num_bytes = min(self._slots.stride, buffer.numel() - self._have)
        copy_bytes(buffer.data_ptr() + self._have, self._slots.addresses[self._next], num_bytes)
        self._have += num_bytes
        self._give_back()
        if self._have < buffer.numel():
            return None
        self._begun = None
        return header.message(tuple(t.to(self._device) for t in unpack(header.specs, buffer)))

    def _give_back(self) -> None:
        """Send the credit of the slot just read."""
        self._next = (self._next + 1) % self._count
        self._give_credit()

    def fill(self) -> int:
        """See :meth:`Transport.fill`."""
        try:
            self._parse(self._read(socket.MSG_DONTWAIT))
        except OSError:
            pass  # nothing new; recv will find the end of file again
        return sum(bool(header) for _, header in self._tokens)
