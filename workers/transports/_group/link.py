"""Connection to one peer over ``torch.distributed``, which also notices that the peer is gone.

[Note: goodbye byte]
Each end posts a receive for one byte at the start, in a thread of its own, and sends that byte when it is done. The
posted receive is how a dead peer is noticed on an idle edge, and the only sure way: an operation that gloo is given
while a connection breaks may wait for ever (seen in 3 of 100 kills), one that waits already always raises.
"""

from datetime import timedelta
from typing import cast

import torch
import torch.distributed as dist
from torch import Tensor

__all__ = ["Link"]

# An idle edge is legal, so waiting in the thread has no end of its own: send and recv have their time-outs, and gloo
# raises when the other process is gone. A wait that runs out would close the connection for good.
_FOR_EVER = timedelta(days=365)
_GOODBYE_TAG = 1
_NEVER_TAG = 2


class Link:
    """Blocking send and receive with one peer, for one edge.

    Args:
        peer: rank of the other end.
        group: gloo group of the two ranks, for this edge alone, so that messages of edges never mix.
        device: device of the payload.
        payload_group: nccl group of the two ranks, where payloads stay on the device; None sends them through the
            host.
    """

    def __init__(
        self, peer: int, group: dist.ProcessGroup, device: torch.device, payload_group: dist.ProcessGroup | None
    ) -> None:
        self.peer, self.group, self.device, self.payload_group = peer, group, device, payload_group
        self.payload_device = device if payload_group is not None else torch.device("cpu")
        self.stream: torch.cuda.Stream | None = None
        if payload_group is not None:
            self.stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._goodbye = torch.empty(1, dtype=torch.uint8)
        self._goodbye_work = cast(dist.Work, dist.irecv(self._goodbye, peer, group=group, tag=_GOODBYE_TAG))

    def send(self, tensor: Tensor) -> None:
        """Send ``tensor``; returns when it may be overwritten. Raises RuntimeError when the connection breaks."""
        if tensor.is_cuda:
            with torch.cuda.stream(self.stream):
                self._wait_cuda(dist.isend(tensor, self.peer, group=self.payload_group))
        else:
            cast(dist.Work, dist.isend(tensor, self.peer, group=self.group)).wait(_FOR_EVER)

    def recv(self, num_bytes: int, device: torch.device) -> Tensor:
        """Receive the next ``num_bytes`` bytes as uint8 (num_bytes,) on ``device``.

        Raises:
            RuntimeError: the connection broke.
        """
        if device.type == "cuda":
            with torch.cuda.stream(self.stream):
                tensor = torch.empty(num_bytes, dtype=torch.uint8, device=device)
                self._wait_cuda(dist.irecv(tensor, self.peer, group=self.payload_group))
        else:
            tensor = torch.empty(num_bytes, dtype=torch.uint8)
            cast(dist.Work, dist.irecv(tensor, self.peer, group=self.group)).wait(_FOR_EVER)
        return tensor

    def _wait_cuda(self, work: dist.Work | None) -> None:
        """Let the host wait for the stream: nccl's own wait only orders streams."""
        cast(dist.Work, work).wait()
        cast(torch.cuda.Stream, self.stream).synchronize()

    def send_goodbye(self) -> None:
        """Tell the peer that this end is done, see [Note: goodbye byte]."""
        goodbye = torch.zeros(1, dtype=torch.uint8)
        cast(dist.Work, dist.isend(goodbye, self.peer, group=self.group, tag=_GOODBYE_TAG)).wait(_FOR_EVER)

    def wait_for_goodbye(self) -> None:
        """Wait for the peer's goodbye byte; raises RuntimeError when the connection breaks."""
        self._goodbye_work.wait(_FOR_EVER)

    def poison(self) -> None:
        """Break the connection under threads that wait on it, here and at the peer.

        gloo has no way to cancel one receive; it closes the connection when a wait runs out, so one does.
        """
        try:
            nothing = torch.empty(1, dtype=torch.uint8)
            work = dist.irecv(nothing, self.peer, group=self.group, tag=_NEVER_TAG)
            cast(dist.Work, work).wait(timedelta(milliseconds=1))
        except RuntimeError:
            pass  # as intended, or broken already
        if self.payload_group is not None:
            self.payload_group.abort()
