"""Ends of a wire between two processes: our transports, raw gloo and ``multiprocessing.Queue``, behind one face.

In all of them the sender may overwrite its tensor as soon as ``send`` has returned, as learning does.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Protocol

import torch
import torch.distributed as dist
import torch.multiprocessing  # noqa: F401  # teaches queues to carry tensors
from torch import Tensor

from pipeline.engine.message import Kind, Message
from pipeline.schedules.position import Position
from workers import transport as transports
from workers.transport import Edge, Endpoint, Transport

__all__ = ["DEPTH", "TIMEOUT_S", "GlooWire", "OurWire", "QueueWire", "Wire", "message", "open_transport", "open_wire"]

DEPTH = 4
"""Messages that may be under way; the default of ``transport.depth``."""
TIMEOUT_S = 30.0


class Wire(Protocol):
    """One process's end of a wire in both directions."""

    def send(self, body: Tensor) -> None:
        """Owns a copy of ``body`` before it returns."""

    def recv(self) -> Tensor:
        """The next tensor from the other process."""

    def close(self) -> None:
        """Lets go of it; both processes have received everything."""


class OurWire:
    """A transport of this project."""

    def __init__(self, name: str, index: int, num_bytes: int, folder: str) -> None:
        self._transport = open_transport(name, index, num_bytes, folder)
        self._peer = 1 - index

    def send(self, body: Tensor) -> None:
        """See :class:`Wire`."""
        self._transport.send(message(body), self._peer, TIMEOUT_S)

    def recv(self) -> Tensor:
        """See :class:`Wire`."""
        return self._transport.recv(self._peer, TIMEOUT_S)[0].tensors[0]

    def close(self) -> None:
        """See :class:`Wire`."""
        self._transport.close(TIMEOUT_S)


class GlooWire:
    """``torch.distributed`` as it comes: blocking calls, a receiver that knows shape and dtype."""

    def __init__(self, index: int, num_bytes: int, folder: str) -> None:
        store = dist.FileStore(f"{folder}/gloo", 2)  # type: ignore[attr-defined]  # public, but not exported
        limit = timedelta(seconds=TIMEOUT_S)
        dist.init_process_group("gloo", store=store, rank=index, world_size=2, timeout=limit)
        self._peer = 1 - index
        self._buffer = torch.empty(num_bytes // 4)

    def send(self, body: Tensor) -> None:
        """See :class:`Wire`."""
        dist.send(body, self._peer)

    def recv(self) -> Tensor:
        """See :class:`Wire`; the same tensor every time."""
        dist.recv(self._buffer, self._peer)
        return self._buffer

    def close(self) -> None:
        """See :class:`Wire`."""
        dist.destroy_process_group()


class QueueWire:
    """A ``multiprocessing.Queue`` each way, of tensors."""

    def __init__(self, index: int, queues: Sequence[Any]) -> None:
        self._out, self._in = queues[index], queues[1 - index]

    def send(self, body: Tensor) -> None:
        """See :class:`Wire`; a copy, since a queue's thread takes the tensor's own memory away later."""
        self._out.put(body.clone(), timeout=TIMEOUT_S)

    def recv(self) -> Tensor:
        """See :class:`Wire`; mapped, not copied."""
        received: Tensor = self._in.get(timeout=TIMEOUT_S)
        return received

    def close(self) -> None:
        """See :class:`Wire`."""
        self._out.close()
        self._out.join_thread()


def message(body: Tensor) -> Message:
    """As a stage would send it."""
    return Message(Kind.TRAIN, Position(0, 0), 1.0, (body,))


def open_transport(name: str, index: int, num_bytes: int, folder: str) -> Transport:
    """One end of a transport with an edge each way between stages 0 and 1."""
    edges = (Edge(0, 1, DEPTH, num_bytes), Edge(1, 0, DEPTH, num_bytes))
    return transports.open_transport(name, Endpoint(index, 2, edges, folder, TIMEOUT_S, "cpu"))


def open_wire(arm: str, index: int, num_bytes: int, folder: str, queues: Sequence[Any]) -> Wire:
    """This process's end."""
    if arm == "gloo":
        return GlooWire(index, num_bytes, folder)
    if arm == "mp_queue":
        return QueueWire(index, queues)
    return OurWire(arm, index, num_bytes, folder)
