"""A transport whose edges are pairs of ends that do their own work: it asks the right one."""

import time
from collections.abc import Mapping
from typing import Protocol

from pipeline.engine.message import Message
from workers.transport import Transport
from workers.transports._errors import no_edge

__all__ = ["Receiver", "Sender", "SocketTransport"]


class Sender(Protocol):
    """The sending end of an edge."""

    @property
    def num_bytes(self) -> int:
        """See :meth:`Transport.queue_bytes`."""

    def send(self, message: Message, timeout: float) -> float:
        """See :meth:`Transport.send`."""

    def hear(self) -> None:
        """Take what receivers have said, without waiting."""

    def drain(self, timeout: float) -> None:
        """Wait until the receiver has taken everything, for as long as it takes something within ``timeout``."""

    def close(self) -> None:
        """Let go of everything."""


class Receiver(Protocol):
    """The receiving end of an edge."""

    def recv(self, timeout: float) -> tuple[Message, float]:
        """See :meth:`Transport.recv`."""

    def fill(self) -> int:
        """See :meth:`Transport.fill`."""

    def drain(self, deadline: float) -> None:
        """Let the sender know what was taken."""

    def close(self) -> None:
        """Let go of everything."""


class SocketTransport(Transport):
    """One stage's ends of all its edges.

    Args:
        stage_index: index of this stage.
        senders: sending ends, by receiving stage.
        receivers: receiving ends, by sending stage.
    """

    def __init__(self, stage_index: int, senders: Mapping[int, Sender], receivers: Mapping[int, Receiver]) -> None:
        self._stage_index = stage_index
        self._senders, self._receivers = dict(senders), dict(receivers)

    def send(self, message: Message, dst: int, timeout: float) -> float:
        """See :meth:`Transport.send`."""
        try:
            sender = self._senders[dst]
        except KeyError:
            raise no_edge(self._stage_index, dst, self._senders) from None
        return sender.send(message, timeout)

    def recv(self, src: int, timeout: float) -> tuple[Message, float]:
        """See :meth:`Transport.recv`."""
        return self._receiver(src).recv(timeout)

    def _receiver(self, src: int) -> Receiver:
        """The end of the edge from ``src``; ValueError where there is none."""
        try:
            return self._receivers[src]
        except KeyError:
            raise no_edge(self._stage_index, src, self._receivers) from None

    def fill(self, src: int) -> int:
        """See :meth:`Transport.fill`."""
        return self._receiver(src).fill()

    def queue_bytes(self) -> int:
        """What this stage's sending ends hold, in bytes; a receiving end that shares the memory does not count it."""
        return sum(sender.num_bytes for sender in self._senders.values())

    def close(self, timeout: float) -> None:
        """See :meth:`Transport.close`. Everything is let go of afterwards, whether or not it raises."""
        deadline = time.perf_counter() + timeout
        try:
            for sender in self._senders.values():
                sender.hear()  # else two that both owe more credits than a socket holds would wait for each other here
            for receiver in self._receivers.values():
                receiver.drain(deadline)
            for sender in self._senders.values():
                sender.drain(timeout)
        finally:
            self.abort()

    def abort(self) -> None:
        """See :meth:`Transport.abort`."""
        ends: list[Sender | Receiver] = [*self._senders.values(), *self._receivers.values()]
        self._senders, self._receivers = {}, {}
        for end in ends:
            end.close()
