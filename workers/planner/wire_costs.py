"""What a message costs on its way between two stages of this host: work of both ends, and the time of a wake-up.

A receiver wakes up the later the longer it has waited, for its core has gone to sleep and its caches have gone cold:
33 us after no wait and 205 after 5 ms were seen on one machine. Short steps feel that most, so wake-ups are measured
after waits of several lengths. Every message is sent and received behind some computing, as in a run: one message right
behind another finds its code and its data in the caches, and takes a third of the time.
"""

import shutil
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch

from pipeline.engine.message import Kind, Message
from pipeline.planning.taken import Taken, Watched
from pipeline.schedules.position import Position
from workers.host.folders import new_folder
from workers.transport import Edge, Endpoint, Transport, open_transport

__all__ = ["WireCosts", "measure_wires"]

_DEPTH = 4
_ROUNDS = 30
_TIMEOUT_S = 20.0
_PATIENCE_S = 60.0
_SIZES = (1024, 1 << 20)
_WAITS_S = (0.0, 5e-5, 3e-4, 1e-3, 5e-3)
_WAITED_SIZE = 1 << 15
_BETWEEN_S = 1e-4
"""Of computing before a message."""
_LAYER = (64, 128)
"""Rows, and width, of the layer that a process trains while its peer waits."""
_Spent = tuple[list[float], list[list[float]], Watched]


@dataclass(frozen=True)
class WireCosts:
    """Seconds of a message: fixed, and for each of its bytes."""

    send_s: float
    send_byte_s: float
    recv_s: float
    recv_byte_s: float
    rouse_s: float = 0.0
    """More for an end whose message, or whose room for one, the other has waited for."""
    wakes: tuple[tuple[float, float], ...] = ()
    """Of a receiver, from the end of a send: seconds that it has waited, rising, and those that it takes to wake up."""
    taken: Taken | None = None
    """When it was measured, and how undisturbed; None: nobody has told."""

    @property
    def wake_s(self) -> float:
        """Of a receiver that has only just begun to wait."""
        return self.wakes[0][1] if self.wakes else 0.0

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, table: Mapping[str, Any]) -> "WireCosts":
        """From :meth:`to_dict`'s table. Raises KeyError, TypeError or ValueError where it is none."""
        fixed = {name: float(table[name]) for name in ("send_s", "send_byte_s", "recv_s", "recv_byte_s", "rouse_s")}
        taken = None if table["taken"] is None else Taken.from_dict(table["taken"])
        return cls(**fixed, wakes=tuple((float(waited), float(wake)) for waited, wake in table["wakes"]), taken=taken)


def measure_wires(transport: str, pool: ProcessPoolExecutor) -> WireCosts:
    """Measures a transport between two processes.

    Args:
        transport: its name; a process group is one of its own, over the loopback interface.
        pool: of two processes at least.
    """
    found = [_bursts(transport, pool, size) for size in _SIZES]
    (small, large), (fewer, more) = found, _SIZES
    send, recv = ((large[k] - small[k]) / (more - fewer) for k in (0, 1))
    fixed = (max(0.0, small[0] - send * fewer), max(0.0, small[1] - recv * fewer))
    costs = WireCosts(fixed[0], max(0.0, send), fixed[1], max(0.0, recv))
    send_s, ways, share = _answers(transport, pool)
    alone_s = costs.send_s + _WAITED_SIZE * costs.send_byte_s
    rouse_s = max(0.0, send_s - alone_s)
    ends_s = alone_s + rouse_s + costs.recv_s + _WAITED_SIZE * costs.recv_byte_s
    # A longer wait never makes a wake-up shorter; where it seems so, it is noise.
    wakes = accumulate((max(0.0, way - ends_s) for way in ways), max)
    taken = Taken(time.time(), share)
    return replace(costs, rouse_s=rouse_s, wakes=tuple(zip(_WAITS_S, wakes, strict=True)), taken=taken)


def _bursts(transport: str, pool: ProcessPoolExecutor, size: int) -> tuple[float, float]:
    """Seconds of sending and of receiving a message of ``size`` bytes that nobody waits for."""
    (sends, _, _), (recvs, _, _) = _both_ends(transport, pool, size, ())
    return statistics.median(sends), statistics.median(recvs)


def _answers(transport: str, pool: ProcessPoolExecutor) -> tuple[float, list[float], float | None]:
    """Seconds of a send to a receiver that waits for it, and, by wait, of one way from send to received; and how much
    of their work both ends had a processor."""
    (sends, trips, one), (_, works, other) = _both_ends(transport, pool, _WAITED_SIZE, _WAITS_S)
    ways = [
        statistics.median((trip - work) / 2 for trip, work in zip(*pair, strict=True))
        for pair in zip(trips, works, strict=True)
    ]
    shares = [end.share for end in (one, other) if end.share is not None]
    return statistics.median(sends), ways, min(shares, default=None)


def _both_ends(
    transport: str, pool: ProcessPoolExecutor, size: int, waits_s: Sequence[float]
) -> tuple[_Spent, _Spent]:
    """Runs :func:`_end` in two processes."""
    folder = new_folder()
    try:
        edges = (Edge(0, 1, _DEPTH, size), Edge(1, 0, _DEPTH, size))
        ends = [Endpoint(k, 2, edges, str(folder), _TIMEOUT_S, "cpu") for k in range(2)]
        found = [pool.submit(_end, transport, end, size, waits_s) for end in ends]
        return found[0].result(_PATIENCE_S), found[1].result(_PATIENCE_S)
    finally:
        shutil.rmtree(Path(folder), ignore_errors=True)


def _end(transport: str, endpoint: Endpoint, size: int, waits_s: Sequence[float]) -> _Spent:
    """One end, in a process of its own.

    Without waits: bursts in one direction; seconds of each send at the first end, of each receive at the second. With
    them: for each wait, messages to and fro, each end at work for so long while the other waits; seconds of each of
    the first end's sends, and by wait of each way until the answer, of which the second's are its work. And the time
    of that work.
    """
    torch.set_num_threads(1)
    line = open_transport(transport, endpoint)
    message = Message(Kind.TRAIN, Position(0, 0, 0), 1.0, (torch.zeros(size // 4),))
    times: list[float] = []
    works = Watched()
    try:
        talk = _Talk(line, message, 1 - endpoint.stage_index, times, works)
        if not waits_s:
            for _ in range(_ROUNDS):
                talk.burst()
        rounds = [[talk.answered(wait_s) for _ in range(_ROUNDS)] for wait_s in waits_s]
        line.close(_TIMEOUT_S)
    except BaseException:
        line.abort()
        raise
    return times, rounds, works


@dataclass(frozen=True)
class _Talk:
    """One end of a line, and the seconds of each of its calls that count."""

    line: Transport
    message: Message
    peer: int
    times: list[float]
    works: Watched
    """While the other end waits."""

    def burst(self) -> None:
        """As many messages as a queue holds, all of them sent before the first is received."""
        if self.peer == 1:
            for _ in range(_DEPTH):
                self._work(_BETWEEN_S)
                self.times.append(_timed(self._send))
            self._recv()
        else:
            time.sleep(0.002)  # until all are there
            for _ in range(_DEPTH):
                self._work(_BETWEEN_S)
                begun = time.perf_counter()
                waited = self._recv()
                self.times.append(max(0.0, time.perf_counter() - begun - waited))
            self._send()

    def answered(self, wait_s: float) -> float:
        """One message to and fro; seconds of the whole way at the first end, of its work at the second."""
        if self.peer == 1:
            self._work(wait_s)
            send_s = _timed(self._send)
            self.times.append(send_s)
            return send_s + _timed(self._recv)
        self._recv()
        work_s = _timed(lambda: self._work(wait_s))
        self._send()
        return work_s

    def _work(self, seconds: float) -> None:
        """Forward and backward through a layer, as a stage computes them, for about so long."""
        rows, width = _LAYER
        inputs, weight = torch.zeros(rows, width), torch.zeros(width, width, requires_grad=True)
        until = time.perf_counter() + seconds
        with self.works.work():
            while time.perf_counter() < until:
                torch.mm(inputs, weight).relu().sum().backward()  # type: ignore[no-untyped-call]
                weight.grad = None

    def _send(self) -> None:
        self.line.send(self.message, self.peer, _TIMEOUT_S)

    def _recv(self) -> float:
        """Returns the seconds that were waited."""
        return self.line.recv(self.peer, _TIMEOUT_S)[1]


def _timed(call: Callable[[], object]) -> float:
    """Seconds of a call."""
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun
