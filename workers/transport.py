"""The contract of a transport: first in first out, bounded, owned before it returns.

[Note: sender copies]
The activation that a stage sends is also what it learns from a moment later. A transport that still reads the tensor
after ``send`` has returned (a feeder thread, an asynchronous send) would ship values that learning is changing, or
change values that autograd is reading: wrong gradients without an error. So ``send`` owns a copy before it returns,
in every transport, and a contract test holds it.

[Note: transport declaration]
The module that defines a transport's ``build`` says in a constant ``CAPABILITIES`` which stages it can connect.
Placement, runners and the contract test ask that and never a name, so a transport of Onward's own is one file in
``workers/transports``, and ``auto`` may choose it. A transport that is named by ``package.module.attribute`` may
declare in an attribute ``CAPABILITIES`` of its own instead. One that declares nothing has the defaults of
:class:`Capabilities`: it is taken to connect any stages, each in a process of its own.
"""

import sys
from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import Enum, Flag, auto

from pipeline import registry
from pipeline.engine.message import Message
from pipeline.errors import ConfigError, TransportTimeout

__all__ = [
    "PACKAGE", "Capabilities", "Devices", "Edge", "Endpoint", "InProcessTransport", "Reach", "Transport",
    "TransportTimeout", "capabilities_of", "open_transport",
]  # fmt: skip

PACKAGE = "workers.transports"
"""Folder of the transports that have a plain name."""


class Reach(Enum):
    """How far apart the stages that a transport connects may be."""

    PROCESS = "one process"
    """All stages take turns in one thread; the transport is an :class:`InProcessTransport`."""
    HOST = "one host"
    """A process for each stage, on one host."""
    ANYWHERE = "any hosts"
    """A process for each stage, on any hosts."""


class Devices(Flag):
    """Where the stages that a transport connects may compute."""

    CPU = auto()
    SHARED_GPU = auto()
    """On GPUs of which at least one has several stages."""
    OWN_GPU = auto()
    """On a GPU each."""
    ALL = CPU | SHARED_GPU | OWN_GPU


@dataclass(frozen=True, slots=True)
class Capabilities:
    """Which stages a transport can connect, see [Note: transport declaration]."""

    reach: Reach = Reach.ANYWHERE
    devices: Devices = Devices.ALL
    needs_group: bool = False
    """Whether the ranks of torchrun make a process group of ``torch.distributed`` before they open it."""
    joins_hosts: bool = False
    """Whether it is made for several hosts with several stages on one of them: ``auto`` takes it nowhere else."""
    auto_order: int | None = None
    """Place in the order in which ``auto`` tries the transports of Onward's own, lowest first; None: never."""


@dataclass(frozen=True, slots=True)
class Edge:
    """A directed connection from stage ``src`` to stage ``dst``."""

    src: int
    dst: int
    depth: int
    """Messages that may be in flight before ``send`` blocks, at least 1."""
    slot_bytes: int
    """Payload of the largest expected message, in bytes; larger ones still pass, in pieces where need be."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Specification of one stage's ends of its edges, from which a transport is built. Picklable."""

    stage_index: int
    num_stages: int
    edges: tuple[Edge, ...]
    """All edges of the pipeline, the same and in the same order for every stage."""
    folder: str
    """Private folder shared by the stages of one host, for sockets and rendezvous files; its maker removes it."""
    timeout_s: float
    """Limit in seconds for any single wait once all stages are connected."""
    device: str
    """Where received tensors are wanted: ``cpu`` or ``cuda:0``."""
    start_timeout_s: float | None = None
    """Limit in seconds for connecting, while other stages may still read their data; None: as ``timeout_s``."""
    hosts: tuple[int, ...] = ()
    """Each stage's host, as a number; empty: all stages are on one host."""

    @property
    def opening_s(self) -> float:
        """Limit in seconds for connecting."""
        return self.timeout_s if self.start_timeout_s is None else self.start_timeout_s

    def is_within_host(self, edge: Edge) -> bool:
        """Whether both ends of an edge are on one host."""
        return not self.hosts or self.hosts[edge.src] == self.hosts[edge.dst]

    def outgoing(self) -> list[Edge]:
        """Edges on which this stage sends."""
        return [e for e in self.edges if e.src == self.stage_index]

    def incoming(self) -> list[Edge]:
        """Edges on which this stage receives."""
        return [e for e in self.edges if e.dst == self.stage_index]


class Transport(ABC):
    """One stage's ends of all its edges. Used by one thread."""

    @abstractmethod
    def send(self, message: Message, dst: int, timeout: float) -> float:
        """Send ``message`` to stage ``dst``; blocks while the queue is full.

        Args:
            message: tensors of any shapes, dtypes and devices. The caller may change them as soon as this returns, see
                [Note: sender copies].
            dst: a stage to which an edge leads.
            timeout: seconds to wait for room.

        Returns:
            Seconds spent waiting for room; the rest of the call was transfer.

        Raises:
            TransportTimeout: no room in time, or the receiver is gone; names both ends.
            ValueError: no open edge leads to ``dst``.
        """

    @abstractmethod
    def recv(self, src: int, timeout: float) -> tuple[Message, float]:
        """Receive the next message from stage ``src``.

        Args:
            src: a stage from which an edge comes.
            timeout: seconds to wait for a message.

        Returns:
            The message, with contiguous tensors on the endpoint's device that belong to the caller, and the seconds
            spent waiting for it.

        Raises:
            TransportTimeout: nothing came in time, or the sender is gone; names both ends.
            ValueError: no open edge comes from ``src``.
        """

    @abstractmethod
    def fill(self, src: int) -> int:
        """Number of messages from ``src`` that have arrived and not been taken; an estimate, for the live view."""

    @abstractmethod
    def queue_bytes(self) -> int:
        """Memory that this stage holds for messages in flight, in bytes."""

    @abstractmethod
    def close(self, timeout: float) -> None:
        """Close all edges; returns when everything sent was received.

        Args:
            timeout: seconds to wait for the receivers.

        Raises:
            TransportTimeout: a receiver did not take what was sent in time; names both ends.
        """

    @abstractmethod
    def abort(self) -> None:
        """Drop all edges at once, whatever is in flight. Never raises, waits at most for its own threads."""


class InProcessTransport(Transport):
    """A transport within one process and thread (``Reach.PROCESS``), whose stages take turns.

    A stage that waited would wait for itself: the runner asks before it calls, and a call that cannot go on raises at
    once, whatever its ``timeout``.
    """

    @abstractmethod
    def can_send(self, dst: int) -> bool:
        """Whether there is room for one more message to stage ``dst``."""

    @abstractmethod
    def can_recv(self, src: int) -> bool:
        """Whether a message from stage ``src`` waits."""


def open_transport(name: str, endpoint: Endpoint) -> Transport:
    """Open one stage's end of the transport ``name`` and meet the other stages.

    Args:
        name: a plain name or a dotted one.
        endpoint: this stage's.

    Raises:
        ConfigError: there is no such transport.
        TransportTimeout: not all stages came in time.
    """
    transport: Transport = registry.load(PACKAGE, name, "transport")(endpoint)
    return transport


def capabilities_of(name: str) -> Capabilities:
    """What the transport ``name`` declares, see [Note: transport declaration].

    Raises:
        ConfigError: there is no such transport, or its declaration is none.
    """
    build = registry.load(PACKAGE, name, "transport")
    path = name if "." in name else f"{PACKAGE}.{name}"
    module = sys.modules.get(path) or sys.modules[path.rpartition(".")[0]]
    declared = getattr(build, "CAPABILITIES", getattr(module, "CAPABILITIES", Capabilities()))
    if not isinstance(declared, Capabilities):
        raise ConfigError(
            f"the transport {name!r} declares no capabilities (given: CAPABILITIES = {declared!r}, expected: a "
            "workers.transport.Capabilities). Correct the declaration, or remove it to have the defaults."
        )
    return declared
