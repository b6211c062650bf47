"""Delays of messages and of stages, as ``[chaos]`` asks for them: for what waiting does, and never to the result.

A late message carries the moment at which it was sent and its delay, as one more tensor, so that any transport can be
late. The receiver takes it out of its queue when it asks for it, and then waits until it would have arrived: messages
are on their way at the same time, as on a wire with latency, and at most as many as the queue has room for. The queue
itself cannot see to that, which a message leaves too early; the receiver knows when the message was received that had
to make room for this one. Between hosts the moment is of the sender's clock, so the hosts' clocks are to agree to
within what the delay means.
"""

import random
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from itertools import repeat

import torch

from pipeline.config import ChaosConfig
from pipeline.engine.message import Message
from pipeline.errors import ConfigError
from pipeline.numerics.seeds import derive
from workers.transport import Edge, Endpoint, InProcessTransport, Transport

__all__ = ["STAMP_BYTES", "Delays", "check_chaos", "delay_of_edge", "delays_of_stage", "with_delays"]

STAMP_BYTES = 2 * torch.float64.itemsize
"""Bytes by which a late message is longer."""
_ONE_IN = 10
"""Stragglers are one in so many, and so many times as late."""


class Delays:
    """One delay after another, in seconds, the same ones in every run with that seed.

    Args:
        mean_s: of the delays.
        kind: see :attr:`pipeline.config.ChaosConfig.delay`.
        seed: of the run.
        key: what is late: ``("link", 0, 1)``.
    """

    def __init__(self, mean_s: float, kind: str, seed: int, *key: int | str) -> None:
        drawn = random.Random(derive(seed, "delay", *key)).random
        makers: dict[str, Callable[[], float]] = {
            "constant": repeat(mean_s).__next__,
            "random": lambda: 2 * mean_s * drawn(),
            "straggler": lambda: mean_s * _ONE_IN * (drawn() < 1 / _ONE_IN),
        }
        self.next = makers[kind]
        """The next one."""


def check_chaos(chaos: ChaosConfig, num_stages: int, num_processes: int | None = None) -> None:
    """Compare the lists of ``[chaos]`` with the number of stages.

    Args:
        chaos: the section of the config.
        num_stages: of the pipeline.
        num_processes: more than stages where a stage has replicas.

    Raises:
        ConfigError: a list has another length, or there is no one link between two stages.
    """
    if isinstance(chaos.delay_s, list) and num_processes not in (None, num_stages):
        raise ConfigError(
            f"chaos.delay_s lists the link between each two stages, and replicas have several (given: {chaos.delay_s}, "
            "expected: one number). Name one delay for all links, or leave run.replicas out."
        )
    wanted = {
        "compute_s": (num_stages, "stages", chaos.compute_s),
        "stage_delay_s": (num_stages, "stages", chaos.stage_delay_s),
        "delay_s": (num_stages - 1, "links", chaos.delay_s),
    }  # fmt: skip
    for key, (count, noun, value) in wanted.items():
        if isinstance(value, list) and len(value) != count:
            raise ConfigError(
                f"chaos.{key} lists {len(value)} times and the run has {count} {noun} (given: {value}, expected: one "
                "number, or one for each). Change the list, or --stages."
            )


def delay_of_edge(chaos: ChaosConfig, edge: Edge) -> float:
    """Mean latency of an edge, in seconds: the longest of the links that it passes."""
    if not isinstance(chaos.delay_s, list):
        return chaos.delay_s
    return max(chaos.delay_s[min(edge.src, edge.dst) : max(edge.src, edge.dst)])


def delays_of_stage(chaos: ChaosConfig, seed: int, stage: int) -> Delays | None:
    """The delays of a stage, one for each optimizer step; None where it is never late."""
    told = chaos.stage_delay_s
    mean_s = told[stage] if isinstance(told, list) else told
    return Delays(mean_s, chaos.delay, seed, "stage", stage) if mean_s > 0 else None


def with_delays(transport: Transport, chaos: ChaosConfig, seed: int, endpoint: Endpoint) -> Transport:
    """``transport``, its messages late where ``chaos`` says so; the same object where it does not.

    Args:
        transport: one stage's ends.
        chaos: the section of the config.
        seed: of the run.
        endpoint: of the stage.
    """
    if not chaos.delays_messages:
        return transport
    late = {
        edge.dst: Delays(delay_of_edge(chaos, edge), chaos.delay, seed, "link", edge.src, edge.dst)
        for edge in endpoint.outgoing()
    }
    depths = {edge.src: edge.depth for edge in endpoint.incoming()}
    kind = _LateInProcess if isinstance(transport, InProcessTransport) else _Late
    return kind(transport, late, depths)


class _Late(Transport):
    """A transport whose messages arrive late.

    Args:
        inner: carries them.
        late: the delays of each edge, by its receiver.
        depths: of each edge, by its sender.
    """

    def __init__(self, inner: Transport, late: dict[int, Delays], depths: dict[int, int]) -> None:
        self._inner = inner
        self._late = late
        self._received: dict[int, deque[float]] = {src: deque(maxlen=depth) for src, depth in depths.items()}

    def send(self, message: Message, dst: int, timeout: float) -> float:
        """See :meth:`Transport.send`."""
        delay = self._late[dst].next() if dst in self._late else 0.0  # an unknown receiver is the transport's to refuse
        stamp = torch.tensor([time.time(), delay], dtype=torch.float64)
        return self._inner.send(replace(message, tensors=(*message.tensors, stamp)), dst, timeout)

    def recv(self, src: int, timeout: float) -> tuple[Message, float]:
        """See :meth:`Transport.recv`."""
        message, waited = self._inner.recv(src, timeout)
        *tensors, stamp = message.tensors
        message.tensors = tuple(tensors)
        sent, delay = stamp.tolist()
        before = self._received[src]
        if len(before) == before.maxlen:  # it had no room before the one was received that is so far in front of it
            sent = max(sent, before[0])
        waited += _wait(min(sent + delay - time.time(), delay))
        before.append(time.time())
        return message, waited

    def fill(self, src: int) -> int:
        """See :meth:`Transport.fill`; messages that are still on their way count."""
        return self._inner.fill(src)

    def queue_bytes(self) -> int:
        """See :meth:`Transport.queue_bytes`."""
        return self._inner.queue_bytes()

    def close(self, timeout: float) -> None:
        """See :meth:`Transport.close`."""
        self._inner.close(timeout)

    def abort(self) -> None:
        """See :meth:`Transport.abort`."""
        self._inner.abort()


class _LateInProcess(_Late, InProcessTransport):
    """The same within one thread: a message that waits can be taken, and is then waited for."""

    _inner: InProcessTransport

    def can_send(self, dst: int) -> bool:
        """See :meth:`InProcessTransport.can_send`."""
        return self._inner.can_send(dst)

    def can_recv(self, src: int) -> bool:
        """See :meth:`InProcessTransport.can_recv`."""
        return self._inner.can_recv(src)


def _wait(seconds: float) -> float:
    """Sleeps so long; returns the seconds slept."""
    if seconds <= 0:
        return 0.0
    start = time.perf_counter()
    time.sleep(seconds)
    return time.perf_counter() - start
