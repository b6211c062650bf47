"""The contract of a transport: first in first out, bounded, owned before it returns.

[Note: sender copies]
The activation that a stage sends is also what it learns from a moment later. A transport that still reads the tensor
after ``send`` has returned (a feeder thread, an asynchronous send) would ship values that learning is changing, or
change values that autograd is reading: wrong gradients without an error. So ``send`` owns a copy before it returns,
in every transport, and a contract test holds it.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from pipeline.engine.message import Message
from pipeline.errors import TransportTimeout

__all__ = ["Edge", "Transport", "TransportTimeout", "Endpoint"]


@dataclass(frozen=True, slots=True)
class Edge:
    """A directed wire from stage ``src`` to stage ``dst``."""

    src: int
    dst: int
    depth: int
    """Messages that may be under way before ``send`` blocks, at least 1."""
    slot_bytes: int
    """Payload of the largest message that is expected; larger ones still pass, in pieces where need be."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What a stage's process needs to open its end of every wire. Picklable."""

    stage_index: int
    num_stages: int
    edges: tuple[Edge, ...]
    """Of the whole pipeline, the same and in the same order for every stage."""
    folder: str
    """A private folder shared by the stages of one host, for sockets and rendezvous files; removed by whoever
    made it."""
    timeout_s: float
    """For connecting, and for any single wait."""
    device: str
    """``cpu`` or ``cuda:0``: where received tensors are wanted."""

    def outgoing(self) -> list[Edge]:
        """Edges on which this stage sends."""
        return [e for e in self.edges if e.src == self.stage_index]

    def incoming(self) -> list[Edge]:
        """Edges on which this stage receives."""
        return [e for e in self.edges if e.dst == self.stage_index]


class Transport(ABC):
    """One stage's end of all its wires. Used by one thread."""

    @abstractmethod
    def send(self, message: Message, dst: int, timeout: float) -> float:
        """Takes over ``message`` for stage ``dst``; blocks while the queue is full.

        Args:
            message: its tensors may be changed by the caller as soon as this returns, see [Note: sender copies].
            dst: a stage to which an edge leads.
            timeout: seconds to wait for room.

        Returns:
            Seconds spent waiting for room; the rest of the call was transfer.

        Raises:
            TransportTimeout: no room in time, or the receiver is gone; names both ends.
        """

    @abstractmethod
    def recv(self, src: int, timeout: float) -> tuple[Message, float]:
        """The next message from stage ``src``, and the seconds spent waiting for it.

        The tensors belong to the caller.

        Raises:
            TransportTimeout: nothing came in time, or the sender is gone; names both ends.
        """

    @abstractmethod
    def fill(self, src: int) -> int:
        """Messages from ``src`` that have arrived and not been taken; an observation, for the live view."""

    @abstractmethod
    def queue_bytes(self) -> int:
        """Memory that this end holds for messages under way, in bytes."""

    @abstractmethod
    def close(self, timeout: float) -> None:
        """Returns when everything sent was received.

        Raises:
            TransportTimeout: a receiver did not take what was sent in time; names both ends.
        """

    @abstractmethod
    def abort(self) -> None:
        """Lets go of everything at once, whatever is under way. Never raises, never waits."""
