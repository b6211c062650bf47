"""The two ends of an edge over a TCP connection, for tensors in host memory.

    stage 0                                                            stage 1
    send: token, header and the tensors' own memory      ---------->   recv: into the memory that it will own
    counts the message as taken                          <- credit --  one byte per message taken

No thread stands between the two stages: the kernel wakes the reader, and its buffers hold what is on its way. That is
why a small message takes less time than gloo's own send and receive, which wakes a thread that wakes another one.
``send`` returns when the kernel has everything, so the caller may overwrite its tensors ([Note: sender copies]). Where
the kernel takes no more, the sender waits about as long as a copy would take; if the reader does not keep up in that
time, what is left is copied, and a thread sends it while the stage goes on. So a reader that is ready is sent large
messages without a copy, and one that is not, or a slow link, does not hold up the stage: two stages that both send
cannot lock up. The socket's end of file means that the other process is gone, however it died.
"""

import ctypes
import select
import socket
import time
from collections import deque
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from pipeline.engine.message import Header, Message, decode_header, encode_header
from workers.transport import Edge
from workers.transports._errors import gone, no_room, nothing_came
from workers.transports._packing import ALIGN, is_plain, own_copy, packed_bytes, padded, unpack
from workers.transports._sockets.backlog import Backlog
from workers.transports._sockets.credits import CreditsGiven, CreditsTaken
from workers.transports._sockets.end import TOKEN

__all__ = ["StreamReceiver", "StreamSender"]

_SMALL_BYTES = 32_768
"""Up to which a message is put together in one piece of memory: that is faster than many pieces."""
_PIECES = 512
"""Pieces that one system call is given; the kernel takes 1024."""
_COPY_BYTES_PER_S = 8e9
"""Rate at which what is left of a message could be copied instead of waiting for the other end."""
_KEEPS_UP_BYTES_PER_S = 0.5e9
"""Rate at which a reader on this host keeps up: as long as it does, it is waited for longer. A wire never is."""
_MOST_SELECTED = 1024
_SCRATCH_BYTES = 65_536
_CPU = torch.device("cpu")
_ZEROS = bytes(ALIGN)
_NOTHING = torch.empty(0, dtype=torch.uint8)


class StreamSender(CreditsTaken):
    """The sending end of ``edge``."""

    def __init__(self, edge: Edge, sock: socket.socket) -> None:
        super().__init__(edge, sock, (socket.SO_RCVTIMEO,), edge.depth)
        self._backlog = Backlog(edge, sock)
        self._is_within_host = sock.getsockname()[0] == sock.getpeername()[0]
        self._sizes: deque[int] = deque()
        self._held_bytes = self._peak_bytes = 0

    @property
    def num_bytes(self) -> int:
        """Most that messages on their way have held at once, in bytes, the kernel's buffers included."""
        return self._peak_bytes

    def send(self, message: Message, timeout: float) -> float:
        """See :meth:`Transport.send`."""
        tensors = [t if is_plain(t) else own_copy(t.resolve_conj().resolve_neg(), _CPU) for t in message.tensors]
        header, total = encode_header(message), packed_bytes(tensors)
        try:
            waited = 0.0 if self._free else self._wait_room(timeout)
            self._backlog.check()
            self._put(_pieces(TOKEN.pack(len(header), total) + header, tensors, total))
        except BlockingIOError:
            raise no_room(self._edge, timeout) from None
        except OSError as error:  # reset, closed, or out of reach
            raise gone(self._edge, self._edge.dst) from error
        self._count_in(total)
        return waited

    def _count_in(self, num_bytes: int) -> None:
        """One more message is on its way."""
        self._free -= 1
        self._sizes.append(num_bytes)
        self._held_bytes += num_bytes
        while len(self._sizes) > self._count - self._free:
            self._held_bytes -= self._sizes.popleft()
        self._peak_bytes = max(self._peak_bytes, self._held_bytes)

    def _put(self, pieces: list[memoryview]) -> None:
        """Send ``pieces``, or leave the rest of them to the thread."""
        left = pieces if len(self._backlog) else self._send_now(pieces)
        if left:
            self._backlog.put(_joined(left))

    def _send_now(self, pieces: list[memoryview]) -> list[memoryview]:
        """Send as long as the other end keeps up; returns what is left."""
        until = 0.0
        while pieces:
            try:
                sent = self._sock.sendmsg(pieces[:_PIECES], (), socket.MSG_DONTWAIT)
            except BlockingIOError:
                now = time.perf_counter()
                until = until or now + sum(map(len, pieces)) / _COPY_BYTES_PER_S
                if not self._keeps_up(until - now):
                    return pieces
                continue
            pieces = _without(pieces, sent)
            until += sent / _KEEPS_UP_BYTES_PER_S if until and self._is_within_host else 0.0
        return pieces

    def _keeps_up(self, seconds: float) -> bool:
        """Whether the kernel takes more within so many seconds. It is asked by ``select``, which counts microseconds
        but only knows the first descriptors of a process."""
        return self._sock.fileno() < _MOST_SELECTED and bool(select.select((), (self._sock,), (), max(seconds, 0.0))[1])

    def close(self) -> None:
        """Close the connection, under the thread too."""
        self._backlog.close()
        super().close()


class StreamReceiver(CreditsGiven):
    """The receiving end of ``edge``. The tensors of a message lie in the memory it was received into.

    Args:
        edge: whose sender is at the other end of ``sock``.
        sock: connected and blocking.
        device: where the tensors are wanted.
    """

    def __init__(self, edge: Edge, sock: socket.socket, device: torch.device) -> None:
        super().__init__(edge, sock, (socket.SO_RCVTIMEO,))
        self._device = device
        self._ready: deque[Message] = deque()
        self._scratch = memoryview(bytearray(_SCRATCH_BYTES))
        self._filled = 0
        self._header: Header | None = None
        self._payload = _NOTHING
        self._rest = self._scratch[:0]

    def recv(self, timeout: float) -> tuple[Message, float]:
        """See :meth:`Transport.recv`. A message that is half here when time runs out is completed by the next call."""
        waited = 0.0
        try:
            while not self._ready:
                try:
                    self._advance(socket.MSG_DONTWAIT)
                except BlockingIOError:
                    start = time.perf_counter()
                    self._allow(timeout - waited)
                    self._advance()
                    waited += time.perf_counter() - start
        except BlockingIOError:
            raise nothing_came(self._edge, timeout) from None
        except OSError as error:  # reset, closed, or out of reach
            raise gone(self._edge, self._edge.src) from error
        message = self._ready.popleft()
        self._give_credit()
        if self._device.type != "cpu":
            message.tensors = tuple(t.to(self._device) for t in message.tensors)
        return message, waited

    def _advance(self, flags: int = 0) -> None:
        """Read what there is, at least one byte: of the payload that has begun, or of what comes next."""
        if self._header is not None:
            self._rest = self._rest[self._taken(self._sock.recv_into(self._rest, 0, flags)) :]
            if not self._rest:
                self._finish()
            return
        self._filled += self._taken(self._sock.recv_into(self._scratch[self._filled :], 0, flags))
        self._parse()

    @staticmethod
    def _taken(num_bytes: int) -> int:
        """``num_bytes``, as a system call has read them; ConnectionResetError where the other end is gone."""
        if num_bytes == 0:
            raise ConnectionResetError("end of file")
        return num_bytes

    def _parse(self) -> None:
        """Cut what was read into messages; what is left of a payload is read into its own memory."""
        start = 0
        while self._header is None and self._filled - start >= TOKEN.size:
            header_bytes, total = TOKEN.unpack_from(self._scratch, start)
            body = start + TOKEN.size + header_bytes
            if body > self._filled:
                self._make_room(TOKEN.size + header_bytes)
                break
            self._header = decode_header(bytes(self._scratch[start + TOKEN.size : body]))
            self._payload = torch.empty(total, dtype=torch.uint8)
            self._rest = self._payload.numpy().data
            have = min(total, self._filled - body)
            self._rest[:have] = self._scratch[body : body + have]
            self._rest, start = self._rest[have:], body + have
            if not self._rest:
                self._finish()
        if start:
            left = self._filled - start
            self._scratch[:left] = bytes(self._scratch[start : self._filled])
            self._filled = left

    def _make_room(self, num_bytes: int) -> None:
        """A header larger than the scratch memory gets more of it, wherever in it the header begins."""
        if num_bytes > _SCRATCH_BYTES and len(self._scratch) < num_bytes + self._filled:
            self._scratch = memoryview(bytearray(self._scratch) + bytearray(num_bytes))

    def _finish(self) -> None:
        """The payload is here."""
        assert self._header is not None  # set where a payload begins
        self._ready.append(self._header.message(unpack(self._header.specs, self._payload)))
        self._header, self._payload, self._rest = None, _NOTHING, self._scratch[:0]  # the message alone holds memory

    def fill(self) -> int:
        """See :meth:`Transport.fill`."""
        try:
            while True:
                self._advance(socket.MSG_DONTWAIT)
        except OSError:
            return len(self._ready)  # nothing new; recv will find the end of file again


def _pieces(head: bytes, tensors: Sequence[Tensor], total: int) -> list[memoryview]:
    """A message as it travels: token and header, then the tensors, each filled up to the alignment."""
    pieces = [memoryview(head)]
    for tensor in tensors:
        if num_bytes := tensor.nbytes:
            pieces.append(memoryview((ctypes.c_ubyte * num_bytes).from_address(tensor.data_ptr())))
            if gap := padded(num_bytes) - num_bytes:
                pieces.append(memoryview(_ZEROS)[:gap])
    return [memoryview(b"".join(pieces))] if total < _SMALL_BYTES else pieces


def _without(pieces: list[memoryview], num_bytes: int) -> list[memoryview]:
    """``pieces`` less their first ``num_bytes``."""
    for index, piece in enumerate(pieces):
        if num_bytes < len(piece):
            return [piece[num_bytes:], *pieces[index + 1 :]]
        num_bytes -= len(piece)
    return []


def _joined(pieces: Sequence[memoryview]) -> memoryview:
    """A copy of all of them, in one piece."""
    rest = torch.empty(sum(map(len, pieces)), dtype=torch.uint8).numpy()
    at = 0
    for piece in pieces:
        rest[at : at + len(piece)] = np.frombuffer(piece, dtype=np.uint8)
        at += len(piece)
    return rest.data
