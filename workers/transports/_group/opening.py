"""Rendezvous of the stages over ``torch.distributed``: the default group, and a group for every edge.

Under ``torchrun`` the default group that exists is used. Otherwise the processes meet through a file in the common
folder, over the loopback interface: only stages of one host can have that folder.
"""

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist

from workers.transport import Edge, Endpoint, TransportTimeout
from workers.transports._group.link import Link

__all__ = ["open_in_group", "open_links"]

Opened = TypeVar("Opened")


def open_in_group(endpoint: Endpoint, connect: Callable[[], Opened], *, keeps_file: bool) -> tuple[Opened, bool]:
    """Meet the other stages in the default group and connect every edge.

    Args:
        endpoint: this stage's.
        connect: connects the edges, once there is a default group.
        keeps_file: whether the file through which the stages met is read later.

    Returns:
        What ``connect`` returns, and whether the default group was made here.

    Raises:
        TransportTimeout: not all stages came in time.
        ValueError: the group that exists has another layout.
    """
    owns_group = not dist.is_initialized()
    if not owns_group:
        _check_group(endpoint)
    try:
        opened = _open_own_group(endpoint, connect, keeps_file=keeps_file) if owns_group else connect()
    except RuntimeError as error:
        if owns_group and dist.is_initialized():
            dist.destroy_process_group()
        raise TransportTimeout(
            f"stage {endpoint.stage_index}: the {endpoint.num_stages} stages did not meet within "
            f"{endpoint.opening_s:g} s. See whether all processes started; the error of a stage that did not "
            "comes first."
        ) from error
    return opened, owns_group


@contextmanager
def _loopback() -> Iterator[None]:
    """Let gloo listen on the loopback interface, whether or not the host's name resolves."""
    names = [name for _, name in socket.if_nameindex() if name.startswith("lo")]
    if "GLOO_SOCKET_IFNAME" in os.environ or not names:
        yield
        return
    os.environ["GLOO_SOCKET_IFNAME"] = names[0]
    try:
        yield
    finally:
        del os.environ["GLOO_SOCKET_IFNAME"]


def _meet(endpoint: Endpoint) -> None:
    """Make the default group, through a file in the common folder."""
    limit = timedelta(seconds=endpoint.opening_s)
    # Without a world size a store leaves its file to us, and says nothing when it is gone.
    store = dist.FileStore(_meeting_file(endpoint), -1)  # type: ignore[attr-defined]  # public, but not exported
    store.set_timeout(limit)
    rank, world_size = endpoint.stage_index, endpoint.num_stages
    dist.init_process_group("gloo", store=store, rank=rank, world_size=world_size, timeout=limit)


def _meeting_file(endpoint: Endpoint) -> str:
    """Path of the file through which the stages meet, needed until all groups are open; nccl reads it later too."""
    return os.path.join(endpoint.folder, "group")


def _check_group(endpoint: Endpoint) -> None:
    """Refuse a default group that has not one rank for each stage, in order."""
    given = (dist.get_rank(), dist.get_world_size())
    if given != (endpoint.stage_index, endpoint.num_stages):
        raise ValueError(
            f"torch.distributed is initialised for another layout (given: rank {given[0]} of {given[1]}, expected: "
            f"rank {endpoint.stage_index} of {endpoint.num_stages}). Start one rank for each stage."
        )


def open_links(endpoint: Endpoint, use_nccl: bool) -> dict[Edge, Link]:
    """Make a group for every edge. torch demands that all ranks take part in all of them, in the same order.

    Args:
        endpoint: this stage's.
        use_nccl: whether payloads travel from device to device.

    Returns:
        A link for each edge that starts or ends at this stage.
    """
    limit = timedelta(seconds=endpoint.opening_s)
    device = torch.device(endpoint.device)
    links = {}
    for edge in endpoint.edges:
        ranks = [edge.src, edge.dst]
        group = dist.new_group(ranks, backend="gloo", timeout=limit)
        payload_group = dist.new_group(ranks, backend="nccl") if use_nccl else None
        if endpoint.stage_index in ranks:
            peer = edge.dst if endpoint.stage_index == edge.src else edge.src
            links[edge] = Link(peer, group, device, payload_group)
            if use_nccl:
                _first_contact(edge, links[edge], endpoint.stage_index)
    return links


def _open_own_group(endpoint: Endpoint, connect: Callable[[], Opened], *, keeps_file: bool) -> Opened:
    """Make the default group, then the edges; leaves no file behind unless it is needed."""
    with _loopback():
        _meet(endpoint)
        opened = connect()
    dist.barrier()
    if endpoint.stage_index == 0 and not keeps_file:
        os.unlink(_meeting_file(endpoint))
    return opened


def _first_contact(edge: Edge, link: Link, stage_index: int) -> None:
    """Send a first byte: nccl connects with it, and connecting in the edges' threads could cross and lock up."""
    if stage_index == edge.src:
        link.send(torch.zeros(1, dtype=torch.uint8, device=link.device))
    else:
        link.recv(1, link.device)
