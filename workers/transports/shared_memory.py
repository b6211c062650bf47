"""Shared slots and Unix sockets between the processes of one host: the fastest way on CPU.

Opening the edges: every receiver listens on a socket in the common folder, every sender connects and passes the
descriptor of the edge's memory. A stage listens on all its sockets before it waits for another one, so no order of
the stages can lock up; the sockets' names are removed as soon as they have served.
"""

import os
import socket
import time
from contextlib import ExitStack

import torch

from workers.transport import Capabilities, Devices, Edge, Endpoint, Reach, TransportTimeout
from workers.transports._errors import not_connected
from workers.transports._slots.receiver import SlotReceiver
from workers.transports._slots.ring import Slots, anonymous_file, slot_stride
from workers.transports._slots.sender import SlotSender
from workers.transports._sockets.transport import SocketTransport

__all__ = ["CAPABILITIES", "SharedMemoryTransport", "build"]

CAPABILITIES = Capabilities(Reach.HOST, Devices.CPU | Devices.SHARED_GPU, auto_order=1)
"""Between GPUs it would take every message through the host."""

_PATH_BYTES = 103  # what macOS takes; Linux takes 107
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.001, 0.05


class SharedMemoryTransport(SocketTransport):
    """One stage's ends of all its edges, over shared slots."""


def _socket_path(folder: str, edge: Edge) -> str:
    """Path at which the receiver of ``edge`` listens."""
    path = os.path.join(folder, f"{edge.src}-{edge.dst}")
    num_bytes = len(os.fsencode(path))
    if num_bytes > _PATH_BYTES:
        raise ValueError(
            f"the path of a Unix socket is too long (given: {path!r}, {num_bytes} bytes, expected: at most "
            f"{_PATH_BYTES}). Use a folder with a shorter name, set TMPDIR to one for instance."
        )
    return path


def _unlink(path: str) -> None:
    """Remove ``path``, if it is still there."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def _listen(path: str, undo: ExitStack) -> socket.socket:
    """Listen at ``path``; ``undo`` closes the socket and removes the path."""
    listener = undo.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
    _unlink(path)  # of a start that was killed
    undo.callback(_unlink, path)
    listener.bind(path)
    listener.listen(1)
    return listener


def _connect(edge: Edge, path: str, endpoint: Endpoint, deadline: float) -> SlotSender:
    """Open the sending end of ``edge``, as soon as the receiver listens."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    pause = _FIRST_PAUSE_S
    while True:
        try:
            sock.connect(path)
            break
        except (FileNotFoundError, ConnectionRefusedError):
            if time.perf_counter() + pause > deadline:
                sock.close()
                raise not_connected(edge, edge.dst, endpoint.opening_s) from None
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_S)
    stride = slot_stride(edge.slot_bytes)
    fd = anonymous_file(edge.depth * stride, endpoint.folder)
    try:
        socket.send_fds(sock, [b"\0"], [fd])
        return SlotSender(edge, sock, Slots(fd, edge.depth, stride))
    finally:
        os.close(fd)


def _accept(edge: Edge, listener: socket.socket, endpoint: Endpoint, deadline: float) -> SlotReceiver:
    """Open the receiving end of ``edge``, as soon as the sender has connected."""
    listener.settimeout(max(deadline - time.perf_counter(), 0.001))
    try:
        sock, _ = listener.accept()
        sock.settimeout(max(deadline - time.perf_counter(), 0.001))
        _, fds, _, _ = socket.recv_fds(sock, 1, 1, getattr(socket, "MSG_CMSG_CLOEXEC", 0))
    except TimeoutError:
        raise not_connected(edge, edge.src, endpoint.opening_s) from None
    if not fds:
        sock.close()
        raise not_connected(edge, edge.src, endpoint.opening_s)
    os.set_inheritable(fds[0], False)
    sock.settimeout(None)
    try:
        slots = Slots(fds[0], edge.depth, slot_stride(edge.slot_bytes))
        return SlotReceiver(edge, sock, slots, torch.device(endpoint.device))
    finally:
        os.close(fds[0])


def build(endpoint: Endpoint) -> SharedMemoryTransport:
    """Open this stage's ends and meet the other stages of this host.

    Raises:
        TransportTimeout: not all stages came in time.
        ValueError: the path of a socket is too long.
    """
    deadline = time.perf_counter() + endpoint.opening_s
    transport = SharedMemoryTransport(endpoint.stage_index, {}, {})
    with ExitStack() as listening:
        listeners = [(e, _listen(_socket_path(endpoint.folder, e), listening)) for e in endpoint.incoming()]
        try:
            for edge in endpoint.outgoing():
                path = _socket_path(endpoint.folder, edge)
                transport._senders[edge.dst] = _connect(edge, path, endpoint, deadline)
            for edge, listener in listeners:
                transport._receivers[edge.src] = _accept(edge, listener, endpoint, deadline)
        except (TransportTimeout, OSError):
            transport.abort()
            raise
    return transport
