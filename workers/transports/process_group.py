"""Edges within a process group of ``torch.distributed``, for any hosts and for GPUs.

The group is where the stages meet. Tensors in host memory then travel over a TCP stream for each edge
(``_group/stream.py``), which wakes fewer threads and copies less than gloo's send and receive; those on devices over
nccl. Send and receive of torch cannot go on in the background, so an edge over them has threads of its own
(``_group/ends.py``).
"""

import time
from collections.abc import Mapping
from functools import partial
from typing import Literal

import torch
import torch.distributed as dist

from pipeline.engine.message import Message
from workers.transport import Capabilities, Devices, Edge, Endpoint, Reach, Transport
from workers.transports._errors import gone, no_edge, no_room, not_taken, nothing_came
from workers.transports._group.ends import GroupReceiver, GroupSender
from workers.transports._group.link import Link
from workers.transports._mailbox import MailboxFailed
from workers.transports._group.meeting import open_streams
from workers.transports._group.opening import open_in_group, open_links
from workers.transports._sockets.transport import Receiver, Sender, SocketTransport

__all__ = ["CAPABILITIES", "ProcessGroupTransport", "StreamTransport", "build"]

CAPABILITIES = Capabilities(Reach.ANYWHERE, Devices.CPU | Devices.OWN_GPU, needs_group=True, auto_order=3)
"""nccl refuses two stages on one GPU."""

Payload = Literal["auto", "streams", "gloo", "nccl"]

_JOIN_S = 1.0
"""For threads whose connection is closed already: they end by themselves, at once."""


class ProcessGroupTransport(Transport):
    """One stage's ends of all its edges, over send and receive of ``torch.distributed``.

    Args:
        endpoint: this stage's.
        links: the connection of each edge that starts or ends here.
        owns_group: whether closing this transport destroys the default group.
    """

    def __init__(self, endpoint: Endpoint, links: dict[Edge, Link], owns_group: bool) -> None:
        self._endpoint = endpoint
        self._links = links
        self._owns_group = owns_group
        self._device = torch.device(endpoint.device)
        self._senders = {e.dst: GroupSender(e, links[e]) for e in endpoint.outgoing()}
        self._receivers = {e.src: GroupReceiver(e, links[e]) for e in endpoint.incoming()}
        self._ends = [*self._senders.values(), *self._receivers.values()]

    def send(self, message: Message, dst: int, timeout: float) -> float:
        """See :meth:`Transport.send`."""
        if dst not in self._senders:
            raise no_edge(self._endpoint.stage_index, dst, self._senders)
        sender = self._senders[dst]
        packed_message = sender.packed_message(message)
        start = time.perf_counter()
        try:
            sender.mailbox.put(packed_message, packed_message.num_bytes, timeout)
        except TimeoutError:
            raise no_room(sender.edge, timeout) from None
        except MailboxFailed as error:
            raise gone(sender.edge, dst) from error
        return time.perf_counter() - start

    def recv(self, src: int, timeout: float) -> tuple[Message, float]:
        """See :meth:`Transport.recv`."""
        receiver = self._receiver(src)
        start = time.perf_counter()
        try:
            message = receiver.mailbox.get(timeout)
        except TimeoutError:
            raise nothing_came(receiver.edge, timeout) from None
        except MailboxFailed as error:
            raise gone(receiver.edge, src) from error
        waited = time.perf_counter() - start
        message.tensors = tuple(self._hand_over(t) for t in message.tensors)
        return message, waited

    def _hand_over(self, tensor: torch.Tensor) -> torch.Tensor:
        """``tensor`` on the stage's device, its memory kept until the caller's stream has used it."""
        if tensor.is_cuda:
            tensor.record_stream(torch.cuda.current_stream(self._device))
        return tensor.to(self._device)

    def _receiver(self, src: int) -> GroupReceiver:
        """The end of the edge from ``src``; ValueError where there is none."""
        if src not in self._receivers:
            raise no_edge(self._endpoint.stage_index, src, self._receivers)
        return self._receivers[src]

    def fill(self, src: int) -> int:
        """See :meth:`Transport.fill`."""
        return len(self._receiver(src).mailbox)

    def queue_bytes(self) -> int:
        """Most that the mailboxes of this stage have held at once, in bytes, on any device."""
        senders, receivers = self._senders.values(), self._receivers.values()
        return sum(s.mailbox.peak_bytes for s in senders) + sum(r.mailbox.peak_bytes for r in receivers)

    def close(self, timeout: float) -> None:
        """See :meth:`Transport.close`.

        Waits as well, within ``timeout`` and without an error, until the stages that send to this one have closed:
        their close handshakes need this one's goodbye byte.
        """
        deadline = time.perf_counter() + timeout
        try:
            for sender in self._senders.values():
                self._end(sender, deadline)
            for sender in self._senders.values():
                self._await_end(sender, deadline, timeout)
            for receiver in self._receivers.values():
                # What was not taken by now never will be, and its sender cannot get a goodbye byte.
                if not len(receiver.mailbox):
                    receiver.join(deadline)
        finally:
            self.abort()

    def _end(self, sender: GroupSender, deadline: float) -> None:
        """Queue the end of the edge behind its messages; where there is no room, :meth:`_await_end` raises."""
        try:
            sender.mailbox.put(None, 0, max(deadline - time.perf_counter(), 0.0))
        except (TimeoutError, MailboxFailed):
            pass

    def _await_end(self, sender: GroupSender, deadline: float, timeout: float) -> None:
        """Wait for the receiver's goodbye byte; TransportTimeout when it does not come."""
        sender.join(deadline)
        if not sender.is_done:
            raise not_taken(sender.edge, timeout) from sender.mailbox.failure

    def abort(self) -> None:
        """See :meth:`Transport.abort`.

        Closes the connections under the threads. Should a thread outlive that, the groups are left to the end of the
        process: destroying a group under a thread that waits on it ends the process with a core dump.
        """
        self._senders, self._receivers = {}, {}
        for end in self._ends:
            if not end.is_done:
                end.mailbox.fail(ConnectionAbortedError("the transport was closed"))
                end.link.poison()
        deadline = time.perf_counter() + _JOIN_S
        self._ends = [end for end in self._ends if not end.join(deadline)]
        if not self._ends:
            self._destroy_groups()

    def _destroy_groups(self) -> None:
        """Destroy the process groups of the edges, or the default group with all of them."""
        links, self._links = self._links, {}
        if self._owns_group and links:
            dist.destroy_process_group()
        elif links:
            for link in links.values():
                dist.destroy_process_group(link.group)


class StreamTransport(SocketTransport):
    """One stage's ends of all its edges, over TCP streams.

    Args:
        stage_index: index of this stage.
        ends: its sending and its receiving ends, by the stage at the other end.
        owns_group: whether closing this transport destroys the default group.
    """

    def __init__(
        self, stage_index: int, ends: tuple[Mapping[int, Sender], Mapping[int, Receiver]], owns_group: bool
    ) -> None:
        super().__init__(stage_index, *ends)
        self._owns_group = owns_group

    def abort(self) -> None:
        """See :meth:`Transport.abort`."""
        super().abort()
        if self._owns_group:
            self._owns_group = False
            dist.destroy_process_group()


def build(endpoint: Endpoint, *, payload: Payload = "auto") -> Transport:
    """Open this stage's ends and meet the other stages.

    Args:
        endpoint: this stage's; the edges are the same for every stage.
        payload: what carries the tensors: ``auto`` is nccl on CUDA and streams on CPU. Streams, and gloo, take those
            on CUDA through the host, which is the only way for two stages on one device: nccl refuses them.

    Raises:
        TransportTimeout: not all stages met in time.
        ValueError: the group that exists has another layout.
    """
    device = torch.device(endpoint.device)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if payload == "auto":
        payload = "nccl" if device.type == "cuda" else "streams"
    if payload == "streams":
        ends, owns_group = open_in_group(endpoint, partial(open_streams, endpoint), keeps_file=False)
        return StreamTransport(endpoint.stage_index, ends, owns_group)
    use_nccl = payload == "nccl" and device.type == "cuda"
    links, owns_group = open_in_group(endpoint, partial(open_links, endpoint, use_nccl), keeps_file=use_nccl)
    return ProcessGroupTransport(endpoint, links, owns_group)
