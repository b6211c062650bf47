"""The two ends of one edge over ``torch.distributed`` send and receive, each with a thread of its own.

gloo moves data only while somebody waits for it, and two stages that both wait in a send wait for ever: so one thread
per edge end does nothing but send, or receive, and the stage's thread meets it at a :class:`Mailbox`.

    stage 0          sender thread                      receiver thread          stage 1
    send: pack,      frame: lengths, header,   ----->   waits for room,
    put              small payload                      receives a frame,
                     payload, if large         ----->   then the payload, put    recv: get
    close: put END   END                       ----->   all was taken?
                     done                      <-----   acknowledgement

A frame has one size, since gloo's receiver must know it before; it holds the whole message where that is small, which
halves the time of small ones. Up to ``depth`` messages wait at each end.
"""

import struct
import threading
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor

from pipeline.message import Message, decode_header, encode_header
from workers.mailbox import Mailbox
from workers.packing import pack, packed_bytes, padded, unpack
from workers.transport import Edge

__all__ = ["GroupReceiver", "GroupSender", "Link"]

# An idle edge is legal, so waiting in the thread has no end of its own: send and recv have their time-outs, and gloo
# raises when the other process is gone. A wait that runs out would close the connection for good.
_FOR_EVER = timedelta(days=365)
_FRAME_BYTES = 8192
_LENGTHS = struct.Struct("<qq")  # bytes of the header, bytes of the packed payload
_END = -1


class Link:
    """Blocking point-to-point traffic with one peer.

    Args:
        peer: its rank.
        group: gloo, of the two; of this edge alone, so that edges never meet.
        device: of the payload.
        payload_group: nccl, of the two, where payloads stay on the device; None sends them through the host.
    """

    def __init__(
        self, peer: int, group: dist.ProcessGroup, device: torch.device, payload_group: dist.ProcessGroup | None
    ) -> None:
        self.peer, self.group, self.device, self.payload_group = peer, group, device, payload_group
        self.payload_device = device if payload_group is not None else torch.device("cpu")
        self.stream: torch.cuda.Stream | None = None
        if payload_group is not None:
            self.stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def send(self, tensor: Tensor) -> None:
        """Returns when ``tensor`` may be overwritten."""
        if tensor.is_cuda:
            with torch.cuda.stream(self.stream):
                self._wait_cuda(dist.isend(tensor, self.peer, group=self.payload_group))
        else:
            cast(dist.Work, dist.isend(tensor, self.peer, group=self.group)).wait(_FOR_EVER)

    def recv(self, num_bytes: int, device: torch.device) -> Tensor:
        """The next ``num_bytes`` bytes, uint8."""
        if device.type == "cuda":
            with torch.cuda.stream(self.stream):
                tensor = torch.empty(num_bytes, dtype=torch.uint8, device=device)
                self._wait_cuda(dist.irecv(tensor, self.peer, group=self.payload_group))
        else:
            tensor = torch.empty(num_bytes, dtype=torch.uint8)
            cast(dist.Work, dist.irecv(tensor, self.peer, group=self.group)).wait(_FOR_EVER)
        return tensor

    def _wait_cuda(self, work: dist.Work | None) -> None:
        """nccl's own wait only orders streams; the host waits for the stream."""
        cast(dist.Work, work).wait()
        cast(torch.cuda.Stream, self.stream).synchronize()

    def poison(self) -> None:
        """Breaks the connection under threads that wait on it, here and at the peer.

        gloo has no way to cancel one receive; it closes the connection when a wait runs out, so one does.
        """
        try:
            nothing = torch.empty(1, dtype=torch.uint8)
            work = dist.irecv(nothing, self.peer, group=self.group, tag=1)
            cast(dist.Work, work).wait(timedelta(milliseconds=1))
        except RuntimeError:
            pass  # as intended, or broken already
        if self.payload_group is not None:
            self.payload_group.abort()


@dataclass(slots=True)
class _Parcel:
    """An owned copy of one message, as the sender thread sends it."""

    parts: list[Tensor]
    packed: torch.cuda.Event | None
    """After which the device holds the copy."""

    @property
    def num_bytes(self) -> int:
        return sum(part.numel() for part in self.parts)


def _as_bytes(data: bytes) -> Tensor:
    """uint8, owned."""
    return torch.frombuffer(bytearray(data), dtype=torch.uint8)


class _GroupEnd:
    """A mailbox and the thread behind it."""

    mailbox: Mailbox[Any]

    def __init__(self, edge: Edge, link: Link) -> None:
        self.edge, self.link = edge, link
        self.is_done = False
        self.thread = threading.Thread(target=self._run, name=f"wire {edge.src}->{edge.dst}", daemon=True)

    def _run(self) -> None:
        """Moves messages until the end of the wire."""
        raise NotImplementedError


class GroupSender(_GroupEnd):
    """The sending end of ``edge``."""

    def __init__(self, edge: Edge, link: Link) -> None:
        super().__init__(edge, link)
        self.mailbox: Mailbox[_Parcel | None] = Mailbox(edge.depth)
        self.thread.start()

    def parcel(self, message: Message) -> _Parcel:
        """Copies ``message``; see [Note: sender copies]. On CUDA the copy is queued on the caller's stream."""
        header, total = encode_header(message), packed_bytes(message.tensors)
        frame = torch.empty(_FRAME_BYTES, dtype=torch.uint8)
        start, is_inside = _inside(len(header), total, self.link.payload_group is not None)
        parts = [frame]
        lengths = _LENGTHS.pack(len(header), total)
        if start <= _FRAME_BYTES:
            lengths += header
        else:
            parts.append(_as_bytes(header))
        frame[: len(lengths)] = _as_bytes(lengths)
        if is_inside:
            payload = frame[start:]
        else:
            payload = torch.empty(total, dtype=torch.uint8, device=self.link.payload_device)
            parts.append(payload)
        pack(message.tensors, payload)
        return _Parcel(parts, self._mark() if payload.is_cuda else None)

    def _mark(self) -> torch.cuda.Event:
        """An event behind the copies that the caller's stream was given."""
        event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record(torch.cuda.current_stream(self.link.device))
        return event

    def _run(self) -> None:
        try:
            while (parcel := self.mailbox.head()) is not None:
                if parcel.packed is not None:
                    cast(torch.cuda.Stream, self.link.stream).wait_event(parcel.packed)
                for part in parcel.parts:
                    self.link.send(part)
                self.mailbox.drop()
            end = torch.zeros(_FRAME_BYTES, dtype=torch.uint8)
            end[: _LENGTHS.size] = _as_bytes(_LENGTHS.pack(_END, 0))
            self.link.send(end)
            self.link.recv(1, torch.device("cpu"))
            self.is_done = True
            self.mailbox.drop()
        except BaseException as error:  # whatever it is, the stage's thread must hear of it
            self.mailbox.fail(error)


class GroupReceiver(_GroupEnd):
    """The receiving end of ``edge``. The tensors of a message are parts of the memory it was received into."""

    def __init__(self, edge: Edge, link: Link) -> None:
        super().__init__(edge, link)
        self.mailbox: Mailbox[Message] = Mailbox(edge.depth)
        self.ended = threading.Event()
        self.thread.start()

    def _run(self) -> None:
        try:
            while True:
                self.mailbox.wait_room()
                message = self._receive()
                if message is None:
                    break
                self.mailbox.put(message, message.num_bytes)
            self.mailbox.wait_empty()
            self.link.send(torch.zeros(1, dtype=torch.uint8))
            self.is_done = True
            self.mailbox.fail(ConnectionResetError("the sender has closed the wire"))
        except BaseException as error:  # whatever it is, the stage's thread must hear of it
            self.mailbox.fail(error)
        finally:
            self.ended.set()

    def _receive(self) -> Message | None:
        """The next message; None at the end of the wire."""
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
    """Where a payload starts in its frame, and whether it is there; an empty one always is."""
    start = padded(_LENGTHS.size + header_bytes)
    return start, total == 0 or (start + total <= _FRAME_BYTES and not is_apart)
