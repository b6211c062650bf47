"""Connections between the stages of a process group, a TCP stream for every edge.

The group is asked once, where each stage listens; the streams are then made without it. A stage listens before it
says where, and connects before it waits for others, so no order of the stages can lock up. A stream begins with a
secret of its listener, which only the group was told: a stranger who connects is sent away.
"""

import os
import secrets
import socket
import struct
import time
from contextlib import ExitStack
from datetime import timedelta

import psutil
import torch
import torch.distributed as dist

from workers.transport import Edge, Endpoint
from workers.transports._errors import not_connected
from workers.transports._group.door import HELLO, SECRET_BYTES, Door
from workers.transports._group.stream import StreamReceiver, StreamSender

__all__ = ["open_streams"]

_PLACE = struct.Struct(f"<{SECRET_BYTES}sHB64s")  # the secret, the port, bytes of the address, the address
_BACKLOG = 128
_KEEP_ALIVE = {"TCP_KEEPIDLE": 5, "TCP_KEEPINTVL": 1, "TCP_KEEPCNT": 5}
"""An idle peer is asked after 5 s, and is gone when it has left 5 questions of a second each unanswered."""


def open_streams(endpoint: Endpoint) -> tuple[dict[int, StreamSender], dict[int, StreamReceiver]]:
    """Connect all edges of this stage, within the default group.

    Returns:
        The sending ends by receiving stage, the receiving ends by sending stage.

    Raises:
        TransportTimeout: a stage did not come in time.
        RuntimeError: the group is broken.
    """
    deadline = time.perf_counter() + endpoint.opening_s
    senders: dict[int, StreamSender] = {}
    receivers: dict[int, StreamReceiver] = {}
    with ExitStack() as listening, ExitStack() as undo:
        listener = listening.enter_context(_listen())
        secret = secrets.token_bytes(SECRET_BYTES)
        places = _exchange(_place(secret, listener), endpoint)
        for edge in endpoint.outgoing():
            sock = _connect(edge, places[edge.dst], endpoint, deadline)
            senders[edge.dst] = StreamSender(edge, sock)
            undo.callback(senders[edge.dst].close)
        door = listening.enter_context(Door(listener, secret))
        for edge, sock in door.let_in(endpoint.incoming(), deadline, endpoint.opening_s):
            receivers[edge.src] = StreamReceiver(edge, _prepared(sock), torch.device(endpoint.device))
            undo.callback(receivers[edge.src].close)
        undo.pop_all()
    return senders, receivers


def _address() -> str:
    """Where gloo would listen, too: on the interface that it is told, or where this host's name points."""
    for name in os.environ.get("GLOO_SOCKET_IFNAME", "").split(","):
        found = psutil.net_if_addrs().get(name, [])
        for family in (socket.AF_INET, socket.AF_INET6):
            for entry in found:
                if entry.family == family:
                    return str(entry.address)
    try:
        return str(socket.getaddrinfo(socket.gethostname(), None, type=socket.SOCK_STREAM)[0][4][0])
    except OSError:
        return "127.0.0.1"


def _listen() -> socket.socket:
    """Listen at a free port of :func:`_address`."""
    address = _address()
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    where = socket.getaddrinfo(address, 0, family, socket.SOCK_STREAM)[0][4]
    return socket.create_server(where, family=family, backlog=_BACKLOG)


def _place(secret: bytes, listener: socket.socket) -> bytes:
    """Where a stage listens, as all stages are told."""
    address, port = listener.getsockname()[:2]
    text = str(address).encode()
    return _PLACE.pack(secret, port, len(text), text)


def _exchange(place: bytes, endpoint: Endpoint) -> list[tuple[bytes, str, int]]:
    """Tell all stages ``place``; returns the secret, the address and the port of each."""
    group = dist.new_group(backend="gloo", timeout=timedelta(seconds=endpoint.opening_s))
    try:
        found = [torch.empty(len(place), dtype=torch.uint8) for _ in range(endpoint.num_stages)]
        dist.all_gather(found, torch.frombuffer(bytearray(place), dtype=torch.uint8), group=group)
    finally:
        dist.destroy_process_group(group)
    places = []
    for tensor in found:
        secret, port, length, text = _PLACE.unpack(tensor.numpy().tobytes())
        places.append((secret, text[:length].decode(), port))
    return places


def _connect(
    edge: Edge, place: tuple[bytes, str, int], endpoint: Endpoint, deadline: float
) -> socket.socket:
    """Open the sending end of ``edge``; its receiver listens already."""
    secret, address, port = place
    try:
        sock = socket.create_connection((address, port), max(deadline - time.perf_counter(), 0.001))
        sock.sendall(HELLO.pack(secret, edge.src, edge.dst))
    except OSError as error:
        raise not_connected(edge, edge.dst, endpoint.opening_s) from error
    return _prepared(sock)


def _prepared(sock: socket.socket) -> socket.socket:
    """A stream that sends at once, waits without an end of its own, and asks an idle peer whether it is there."""
    sock.settimeout(None)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEP_ALIVE.items():
        if hasattr(socket, name):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return sock
