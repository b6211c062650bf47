"""The two ends of an edge over ``torch.distributed`` send and receive, each with two threads of its own.

A send of gloo is over when the peer has received, and two stages that both wait in a send wait for ever: so one thread
per end does nothing but send, or receive, and the stage's thread exchanges messages with it in a :class:`Mailbox`.

    stage 0          sender thread                      receiver thread          stage 1
    send: pack,      frame: lengths, header,   ----->   waits for room,
    put              small payload                      receives a frame,
                     payload, if large         ----->   then the payload, put    recv: get
    close: put END   END frame                 ----->   waits until all was taken
                     done                      <-----   goodbye byte
                     goodbye byte              ----->   done

That close handshake, and the notice of a peer that died, rest on [Note: goodbye byte].

All frames have one size, since gloo's receiver must know it beforehand. A small message is sent whole inside its
frame, which halves its time. Up to ``depth`` messages wait at each end.
"""

import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from pipeline.engine.message import Message, decode_header, encode_header
from workers.transport import Edge
from workers.transports._group.link import Link
from workers.transports._mailbox import Mailbox
from workers.transports._packing import pack, packed_bytes, padded, unpack

__all__ = ["GroupReceiver", "GroupSender"]

_FRAME_BYTES = 8192
_LENGTHS = struct.Struct("<qq")  # bytes of the header, bytes of the packed payload
_END = -1


@dataclass(slots=True)
class _PackedMessage:
    """An owned copy of one message, as the sender thread sends it."""

    pieces: list[Tensor]
    """The frame and what does not fit into it, uint8, in the order in which they are sent."""
    packed: torch.cuda.Event | None
    """Recorded behind the copy on the device; None where the copy is in host memory."""

    @property
    def num_bytes(self) -> int:
        """Bytes of all pieces."""
        return sum(piece.numel() for piece in self.pieces)


def _as_bytes(data: bytes) -> Tensor:
    """``data`` as a uint8 tensor that owns its memory."""
    return torch.frombuffer(bytearray(data), dtype=torch.uint8)


class _GroupEnd:
    """One end of ``edge``: a mailbox and the two threads behind it."""

    mailbox: Mailbox[Any]

    def __init__(self, edge: Edge, link: Link) -> None:
        self.edge, self.link = edge, link
        self.is_done = False
        self._peer_is_done = threading.Event()
        name = f"edge {edge.src}->{edge.dst}"
        self.threads = [
            threading.Thread(target=self._guard, args=(work,), name=name, daemon=True)
            for work in (self._await_goodbye, self._run)
        ]

    def start(self) -> None:
        """Starts the threads."""
        for thread in self.threads:
            thread.start()

    def join(self, deadline: float) -> bool:
        """Waits for the threads until ``deadline``, by ``time.perf_counter``; True if they ended."""
        for thread in self.threads:
            thread.join(max(deadline - time.perf_counter(), 0.0))
        return not any(thread.is_alive() for thread in self.threads)

    def _guard(self, work: Callable[[], None]) -> None:
        """Runs ``work`` in a thread; an error fails the mailbox, where the stage's thread finds it."""
        try:
            if self.link.device.type == "cuda":  # a thread begins on the first GPU, and would take memory there
                torch.cuda.set_device(self.link.device)
            work()
        except BaseException as error:
            self.mailbox.fail(error)
            self._peer_is_done.set()

    def _await_goodbye(self) -> None:
        """Body of the thread that waits for the peer's [Note: goodbye byte]."""
        self.link.wait_for_goodbye()
        self._peer_is_done.set()

    def _wait_for_peer(self) -> None:
        """Returns when the peer's goodbye byte has come; raises what broke the connection."""
        self._peer_is_done.wait()
        if self.mailbox.failure is not None:
            raise self.mailbox.failure

    def _run(self) -> None:
        """Body of the thread that moves messages until the edge is closed."""
        raise NotImplementedError


class GroupSender(_GroupEnd):
    """The sending end of ``edge``."""

    def __init__(self, edge: Edge, link: Link) -> None:
        super().__init__(edge, link)
        self.mailbox: Mailbox[_PackedMessage | None] = Mailbox(edge.depth)
        self.start()

    def packed_message(self, message: Message) -> _PackedMessage:
        """Copy ``message``, see [Note: sender copies]. On CUDA the copy is queued on the caller's stream."""
        header, total = encode_header(message), packed_bytes(message.tensors)
        frame = torch.empty(_FRAME_BYTES, dtype=torch.uint8)
        start, is_inside = _inside(len(header), total, self.link.payload_group is not None)
        pieces = [frame]
        lengths = _LENGTHS.pack(len(header), total)
        if start <= _FRAME_BYTES:
            lengths += header
        else:
            pieces.append(_as_bytes(header))
        frame[: len(lengths)] = _as_bytes(lengths)
        if is_inside:
            payload = frame[start:]
        else:
            payload = torch.empty(total, dtype=torch.uint8, device=self.link.payload_device)
            pieces.append(payload)
        pack(message.tensors, payload)
        return _PackedMessage(pieces, self._mark() if payload.is_cuda else None)

    def _mark(self) -> torch.cuda.Event:
        """Record an event behind the copies that the caller's stream was given."""
        event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record(torch.cuda.current_stream(self.link.device))
        return event

    def _run(self) -> None:
        while (packed_message := self.mailbox.head()) is not None:
            if packed_message.packed is not None:
                cast(torch.cuda.Stream, self.link.stream).wait_event(packed_message.packed)
            for piece in packed_message.pieces:
                self.link.send(piece)
            self.mailbox.drop()
        end = torch.zeros(_FRAME_BYTES, dtype=torch.uint8)
        end[: _LENGTHS.size] = _as_bytes(_LENGTHS.pack(_END, 0))
        self.link.send(end)
        self._wait_for_peer()
        self.link.send_goodbye()
        self.is_done = True


class GroupReceiver(_GroupEnd):
    """The receiving end of ``edge``. The tensors of a message lie in the memory it was received into."""

    def __init__(self, edge: Edge, link: Link) -> None:
        super().__init__(edge, link)
        self.mailbox: Mailbox[Message] = Mailbox(edge.depth)
        self.start()

    def _run(self) -> None:
        while True:
            self.mailbox.wait_room()
            message = self._receive()
            if message is None:
                break
            self.mailbox.put(message, message.num_bytes)
        self.mailbox.wait_empty()
        self.link.send_goodbye()
        self._wait_for_peer()
        self.is_done = True
        self.mailbox.fail(ConnectionResetError("the sender has closed the edge"))

    def _receive(self) -> Message | None:
        """Receive the next message; None when the sender has closed the edge."""
        cpu = torch.device("cpu")
        frame = self.link.recv(_FRAME_BYTES, cpu)
        memory = frame.numpy().data
        header_bytes, total = _LENGTHS.unpack_from(memory)
        if header_bytes == _END:
            return None
        start, is_inside = _inside(header_bytes, total, self.link.payload_group is not None)
        if start <= _FRAME_BYTES:
            header = decode_header(memory[_LENGTHS.size : _LENGTHS.size + header_bytes].tobytes())
        else:
            header = decode_header(self.link.recv(header_bytes, cpu).numpy().tobytes())
        payload = frame[start:] if is_inside else self.link.recv(total, self.link.payload_device)
        return header.message(unpack(header.specs, payload))


def _inside(header_bytes: int, total: int, is_apart: bool) -> tuple[int, bool]:
    """Offset of a payload in its frame in bytes, and whether the frame holds it; it always holds an empty one.

    Args:
        header_bytes: size of the message's header.
        total: size of the packed payload in bytes.
        is_apart: whether payloads stay on the device and travel over nccl.
    """
    start = padded(_LENGTHS.size + header_bytes)
    return start, total == 0 or (start + total <= _FRAME_BYTES and not is_apart)
