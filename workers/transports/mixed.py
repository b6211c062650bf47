"""Shared memory inside each host and the process group between hosts, edge by edge, in one run.

Which stages share a host is what their processes have said of themselves (``Endpoint.hosts``), not what follows from
their numbers. Every edge is opened by the transport that serves it, and keeps its promises; this file only asks the
right one.
"""

import time
from dataclasses import replace

from pipeline.engine.message import Message
from workers.transport import Capabilities, Devices, Edge, Endpoint, Reach, Transport
from workers.transports import process_group, shared_memory
from workers.transports._errors import no_edge

__all__ = ["CAPABILITIES", "MixedTransport", "build"]

CAPABILITIES = Capabilities(
    Reach.ANYWHERE, Devices.CPU | Devices.SHARED_GPU, needs_group=True, joins_hosts=True, auto_order=2
)
"""On a GPU each, nccl is faster inside a host, too."""


class MixedTransport(Transport):
    """One stage's ends of all its edges.

    Args:
        endpoint: this stage's.
        near: its ends of the edges inside its host.
        far: its ends of the edges to other hosts; None where the pipeline has none.
    """

    def __init__(self, endpoint: Endpoint, near: Transport, far: Transport | None) -> None:
        self._stage_index = endpoint.stage_index
        self._parts = [near] if far is None else [near, far]

        def serving(edge: Edge) -> Transport:
            return near if far is None or endpoint.is_within_host(edge) else far

        self._sending = {e.dst: serving(e) for e in endpoint.outgoing()}
        self._receiving = {e.src: serving(e) for e in endpoint.incoming()}

    def send(self, message: Message, dst: int, timeout: float) -> float:
        """See :meth:`Transport.send`."""
        try:
            part = self._sending[dst]
        except KeyError:
            raise no_edge(self._stage_index, dst, self._sending) from None
        return part.send(message, dst, timeout)

    def recv(self, src: int, timeout: float) -> tuple[Message, float]:
        """See :meth:`Transport.recv`."""
        return self._receiver(src).recv(src, timeout)

    def _receiver(self, src: int) -> Transport:
        """What serves the edge from ``src``; ValueError where there is none."""
        try:
            return self._receiving[src]
        except KeyError:
            raise no_edge(self._stage_index, src, self._receiving) from None

    def fill(self, src: int) -> int:
        """See :meth:`Transport.fill`."""
        return self._receiver(src).fill(src)

    def queue_bytes(self) -> int:
        """See :meth:`Transport.queue_bytes`."""
        return sum(part.queue_bytes() for part in self._parts)

    def close(self, timeout: float) -> None:
        """See :meth:`Transport.close`.

        Edges inside the host first, on every stage: nobody waits for an edge between hosts before its credits are out.
        """
        start = time.perf_counter()
        try:
            for part in self._parts:
                part.close(max(round(timeout - (time.perf_counter() - start), 3), 0.0))
        finally:
            self.abort()

    def abort(self) -> None:
        """See :meth:`Transport.abort`."""
        self._sending, self._receiving = {}, {}
        for part in self._parts:
            part.abort()


def build(endpoint: Endpoint) -> MixedTransport:
    """Open this stage's ends and meet the other stages.

    Raises:
        TransportTimeout: not all stages came in time.
        ValueError: the group that exists has another layout, or the path of a socket is too long.
    """
    near = shared_memory.build(replace(endpoint, edges=_edges(endpoint, within=True)))
    between = _edges(endpoint, within=False)
    if not between:
        return MixedTransport(endpoint, near, None)
    try:
        # Every stage takes part in the meeting, whatever its own edges are. Between hosts, nccl would refuse two stages
        # on one GPU.
        far = process_group.build(replace(endpoint, edges=between), payload="streams")
    except BaseException:
        near.abort()
        raise
    return MixedTransport(endpoint, near, far)


def _edges(endpoint: Endpoint, *, within: bool) -> tuple[Edge, ...]:
    """All edges of the pipeline inside hosts, or all between them; the same for every stage."""
    return tuple(e for e in endpoint.edges if endpoint.is_within_host(e) is within)
