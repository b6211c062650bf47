"""A deque per edge, all stages in one process and one thread: for tests and debugging, and the oracle for the others.

One thread drives the stages in turn, so a stage that waited would wait for itself: the runner asks ``can_send`` and
``can_recv`` before it calls, and a call that cannot go on raises at once.
"""

from collections import deque
from dataclasses import replace

import torch

from pipeline.engine.message import Message
from workers.transport import Capabilities, Edge, Endpoint, InProcessTransport, Reach
from workers.transports._errors import gone, no_edge, no_room, not_taken, nothing_came
from workers.transports._packing import own_copy

__all__ = ["CAPABILITIES", "Hub", "InlineTransport", "build"]

CAPABILITIES = Capabilities(Reach.PROCESS)


class Hub:
    """The queues of one pipeline's edges, shared by the transports of its stages.

    Args:
        edges: all edges of the pipeline.
    """

    def __init__(self, edges: tuple[Edge, ...]) -> None:
        self.queues: dict[tuple[int, int], deque[Message]] = {(e.src, e.dst): deque() for e in edges}
        self.present: set[int] = set()
        self.left: set[int] = set()

    def join(self, endpoint: Endpoint) -> "InlineTransport":
        """Make the transport of one stage."""
        self.present.add(endpoint.stage_index)
        return InlineTransport(self, endpoint)


# The stages of one pipeline have their folder in common, and nothing else.
_hubs: dict[str, Hub] = {}


class InlineTransport(InProcessTransport):
    """One stage's ends of its edges, over the queues of a :class:`Hub`."""

    def __init__(self, hub: Hub, endpoint: Endpoint) -> None:
        self._hub = hub
        self._endpoint = endpoint
        self._device = torch.device(endpoint.device)
        self._outgoing = {e.dst: e for e in endpoint.outgoing()}
        self._incoming = {e.src: e for e in endpoint.incoming()}
        self._peak_bytes = 0

    def _edge(self, edges: dict[int, Edge], peer: int) -> Edge:
        """The edge to or from ``peer``; ValueError where there is none."""
        if peer not in edges:
            raise no_edge(self._endpoint.stage_index, peer, edges)
        return edges[peer]

    def _queue(self, edge: Edge) -> deque[Message]:
        """Messages in flight on ``edge``."""
        return self._hub.queues[edge.src, edge.dst]

    def can_send(self, dst: int) -> bool:
        """See :meth:`InProcessTransport.can_send`."""
        edge = self._edge(self._outgoing, dst)
        return len(self._queue(edge)) < edge.depth

    def can_recv(self, src: int) -> bool:
        """See :meth:`InProcessTransport.can_recv`."""
        return bool(self._queue(self._edge(self._incoming, src)))

    def send(self, message: Message, dst: int, timeout: float) -> float:
        """See :meth:`Transport.send`; a full queue raises at once."""
        edge = self._edge(self._outgoing, dst)
        if dst in self._hub.left:
            raise gone(edge, dst)
        if not self.can_send(dst):
            raise no_room(edge, 0.0)
        tensors = tuple(own_copy(t, t.device) for t in message.tensors)
        self._queue(edge).append(replace(message, tensors=tensors))
        self._peak_bytes = max(self._peak_bytes, self._bytes_in_flight())
        return 0.0

    def recv(self, src: int, timeout: float) -> tuple[Message, float]:
        """See :meth:`Transport.recv`; an empty queue raises at once."""
        edge = self._edge(self._incoming, src)
        if not self._queue(edge):
            raise gone(edge, src) if src in self._hub.left else nothing_came(edge, 0.0)
        message = self._queue(edge).popleft()
        message.tensors = tuple(t.to(self._device) for t in message.tensors)
        return message, 0.0

    def fill(self, src: int) -> int:
        """See :meth:`Transport.fill`."""
        return len(self._queue(self._edge(self._incoming, src)))

    def _bytes_in_flight(self) -> int:
        """Payload sent by this stage and not yet received, in bytes."""
        return sum(m.num_bytes for e in self._outgoing.values() for m in self._queue(e))

    def queue_bytes(self) -> int:
        """Most that messages of this stage in flight have held at once, in bytes."""
        return self._peak_bytes

    def close(self, timeout: float) -> None:
        """See :meth:`Transport.close`; raises at once for what was not taken, since no other thread could take it."""
        unread = [e for e in self._outgoing.values() if self._queue(e)]
        self.abort()
        if unread:
            raise not_taken(unread[0], 0.0)

    def abort(self) -> None:
        """Leave the hub; what was sent can still be received."""
        self._hub.left.add(self._endpoint.stage_index)
        self._outgoing, self._incoming = {}, {}
        if self._hub.left >= self._hub.present and _hubs.get(self._endpoint.folder) is self._hub:
            del _hubs[self._endpoint.folder]


def build(endpoint: Endpoint) -> InlineTransport:
    """Open this stage's ends; stages whose endpoints name the same folder meet."""
    return _hubs.setdefault(endpoint.folder, Hub(endpoint.edges)).join(endpoint)
