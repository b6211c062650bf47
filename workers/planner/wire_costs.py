"""What a message costs on its way between two stages of this host: work of both ends, and the time of a wake-up."""

import shutil
import statistics
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from pipeline.engine.message import Kind, Message
from pipeline.schedules.position import Position
from workers.host.folders import new_folder
from workers.transport import Edge, Endpoint, open_transport

__all__ = ["WireCosts", "measure_wires"]

_DEPTH = 4
_ROUNDS = 30
_TIMEOUT_S = 20.0
_SIZES = (1024, 1 << 20)


@dataclass(frozen=True)
class WireCosts:
    """Seconds of a message: fixed, and for each of its bytes."""

    send_s: float
    send_byte_s: float
    recv_s: float
    recv_byte_s: float
    wake_s: float
    """From the end of a send to a receiver that has waited for it."""

    def to_dict(self) -> dict[str, float]:
        """For JSON."""
        return asdict(self)


def measure_wires(transport: str, pool: ProcessPoolExecutor) -> WireCosts:
    """Measures a transport between two processes.

    Args:
        transport: its name; it connects processes of one host, and needs no process group.
        pool: of two processes at least.
    """
    found = [_measure(transport, pool, size) for size in _SIZES]
    (small, large), (fewer, more) = found, _SIZES
    send, recv = ((large[k] - small[k]) / (more - fewer) for k in (0, 1))
    return WireCosts(
        max(0.0, small[0] - send * fewer), max(0.0, send), max(0.0, small[1] - recv * fewer), max(0.0, recv), small[2]
    )


def _measure(transport: str, pool: ProcessPoolExecutor, size: int) -> tuple[float, float, float]:
    """Seconds of sending, receiving and waking up, at one size in bytes."""
    folder = new_folder()
    try:
        edges = (Edge(0, 1, _DEPTH, size), Edge(1, 0, _DEPTH, size))
        ends = [Endpoint(k, 2, edges, str(folder), _TIMEOUT_S, "cpu") for k in range(2)]
        (sends, trips), recvs = [f.result(60.0) for f in [pool.submit(_end, transport, end, size) for end in ends]]
    finally:
        shutil.rmtree(Path(folder), ignore_errors=True)
    send, recv, trip = (statistics.median(times) for times in (sends, recvs[0], trips))
    return send, recv, max(0.0, trip / 2 - send - recv)


def _end(transport: str, endpoint: Endpoint, size: int) -> tuple[Sequence[float], Sequence[float]]:
    """One end, in a process of its own: bursts in one direction, then one message to and fro."""
    torch.set_num_threads(1)
    line = open_transport(transport, endpoint)
    message = Message(Kind.TRAIN, Position(0, 0, 0), 1.0, (torch.zeros(size // 4),))
    peer, times, trips = 1 - endpoint.stage_index, [], []
    try:
        for _ in range(_ROUNDS):
            if endpoint.stage_index == 0:
                for _ in range(_DEPTH):
                    times.append(_timed(lambda: line.send(message, peer, _TIMEOUT_S)))
                line.recv(peer, _TIMEOUT_S)
            else:
                time.sleep(0.002)  # until all are there
                for _ in range(_DEPTH):
                    times.append(_timed(lambda: line.recv(peer, _TIMEOUT_S)))
                line.send(message, peer, _TIMEOUT_S)
        for _ in range(_ROUNDS):
            if endpoint.stage_index == 0:
                begun = time.perf_counter()
                line.send(message, peer, _TIMEOUT_S)
                line.recv(peer, _TIMEOUT_S)
                trips.append(time.perf_counter() - begun)
            else:
                line.recv(peer, _TIMEOUT_S)
                line.send(message, peer, _TIMEOUT_S)
        line.close(_TIMEOUT_S)
    except BaseException:
        line.abort()
        raise
    return times, trips


def _timed(call: object) -> float:
    """Seconds of a call."""
    begun = time.perf_counter()
    call()  # type: ignore[operator]
    return time.perf_counter() - begun
