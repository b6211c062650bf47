"""Channels between two processes: Onward's transports, raw gloo and ``multiprocessing.Queue``, behind one interface.

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

__all__ = [
    "DEPTH", "TIMEOUT_S", "Channel", "GlooChannel", "OnwardChannel", "QueueChannel", "message", "open_channel",
    "open_transport",
]  # fmt: skip

DEPTH = 4
"""Maximum messages in flight; the default of ``transport.depth``."""
TIMEOUT_S = 30.0


class Channel(Protocol):
    """One process's end of a two-way channel."""

    def send(self, body: Tensor) -> None:
        """Send ``body``, of which a copy is owned before this returns."""

    def recv(self) -> Tensor:
        """The next tensor from the other process."""

    def close(self) -> None:
        """Close it; both processes have received everything."""


class OnwardChannel:
    """A transport of Onward."""

    def __init__(self, name: str, index: int, num_bytes: int, folder: str) -> None:
        self._transport = open_transport(name, index, num_bytes, folder)
        self._peer = 1 - index

    def send(self, body: Tensor) -> None:
        """See :class:`Channel`."""
        self._transport.send(message(body), self._peer, TIMEOUT_S)

    def recv(self) -> Tensor:
        """See :class:`Channel`."""
        return self._transport.recv(self._peer, TIMEOUT_S)[0].tensors[0]

    def close(self) -> None:
        """See :class:`Channel`."""
        self._transport.close(TIMEOUT_S)


class GlooChannel:
    """``torch.distributed`` as it comes: blocking calls, a receiver that knows shape and dtype."""

    def __init__(self, index: int, num_bytes: int, folder: str) -> None:
        store = dist.FileStore(f"{folder}/gloo", 2)  # type: ignore[attr-defined]  # public, but not exported
        limit = timedelta(seconds=TIMEOUT_S)
        dist.init_process_group("gloo", store=store, rank=index, world_size=2, timeout=limit)
        self._peer = 1 - index
        self._buffer = torch.empty(num_bytes // 4)

    def send(self, body: Tensor) -> None:
        """See :class:`Channel`."""
        dist.send(body, self._peer)

    def recv(self) -> Tensor:
        """See :class:`Channel`; the same tensor every time."""
        dist.recv(self._buffer, self._peer)
        return self._buffer

    def close(self) -> None:
        """See :class:`Channel`."""
        dist.destroy_process_group()


class QueueChannel:
    """A ``multiprocessing.Queue`` each way, of tensors."""

    def __init__(self, index: int, queues: Sequence[Any]) -> None:
        self._out, self._in = queues[index], queues[1 - index]

    def send(self, body: Tensor) -> None:
        """See :class:`Channel`; a copy, since a queue's thread takes the tensor's own memory away later."""
        self._out.put(body.clone(), timeout=TIMEOUT_S)

    def recv(self) -> Tensor:
        """See :class:`Channel`; mapped, not copied."""
        received: Tensor = self._in.get(timeout=TIMEOUT_S)
        return received

    def close(self) -> None:
        """See :class:`Channel`."""
        self._out.close()
        self._out.join_thread()


def message(body: Tensor) -> Message:
    """Message with ``body``, as a stage sends it."""
    return Message(Kind.TRAIN, Position(0, 0), 1.0, (body,))


def open_transport(name: str, index: int, num_bytes: int, folder: str) -> Transport:
    """One end of a transport with an edge each way between stages 0 and 1."""
    edges = (Edge(0, 1, DEPTH, num_bytes), Edge(1, 0, DEPTH, num_bytes))
    return transports.open_transport(name, Endpoint(index, 2, edges, folder, TIMEOUT_S, "cpu"))


def open_channel(arm: str, index: int, num_bytes: int, folder: str, queues: Sequence[Any]) -> Channel:
    """Open this process's end of the channel of ``arm``."""
    if arm == "gloo":
        return GlooChannel(index, num_bytes, folder)
    if arm == "mp_queue":
        return QueueChannel(index, queues)
    return OnwardChannel(arm, index, num_bytes, folder)
