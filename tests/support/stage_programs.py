"""Small stage programs that run over any transport: in processes, or in turn where one thread has them all.

A program is a generator ``program(stage_index, *args)``: it yields ``Send(message, dst)`` or ``Recv(src)``, is sent
the message received, and returns its result. It is the way in which the runtime drives its stages, too.
"""

from typing import NamedTuple

import pytest
from tests.support.processes import results, sign, wait_for

from pipeline.engine.message import Kind, Message
from pipeline.registry import load
from pipeline.schedules.position import Position
from workers.transport import PACKAGE, Edge, Endpoint, Reach, TransportTimeout, capabilities_of

__all__ = ["Recv", "Send", "endpoint_of", "fill_up", "message", "open_transport", "run_programs"]

TIMEOUT_S = 20.0


class Send(NamedTuple):
    message: Message
    dst: int


class Recv(NamedTuple):
    src: int


def message(*tensors, step=0, kind=Kind.TRAIN):
    """A message about micro-batch ``step``."""
    return Message(kind, Position(0, step), 1.0, tensors)


def endpoint_of(stage_index, folder, edges, num_stages=2, timeout_s=TIMEOUT_S, device="cpu"):
    """The specification of one stage; ``edges`` as tuples (src, dst, depth, slot_bytes)."""
    return Endpoint(stage_index, num_stages, tuple(Edge(*e) for e in edges), str(folder), timeout_s, device)


def open_transport(name, *args, options=None, **kwargs):
    """This stage's end of a transport; ``options`` go to its build."""
    build = load(PACKAGE, name, "transport")
    return build(endpoint_of(*args, **kwargs), **(options or {}))


def run_programs(name, program, folder, edges, *args, num_stages=2):
    """Runs ``program`` in every stage over the transport ``name``; the results in stage order."""
    if capabilities_of(name).reach is Reach.PROCESS:
        return _in_turn(name, program, folder, edges, args, num_stages)
    return results(_in_process, num_stages, folder, name, program, edges, args, num_stages)


def _in_process(stage_index, folder, name, program, edges, args, num_stages):
    transport = open_transport(name, stage_index, folder, edges, num_stages)
    steps = program(stage_index, *args)
    reply = None
    while True:
        try:
            request = steps.send(reply)
        except StopIteration as stop:
            transport.close(TIMEOUT_S)
            return stop.value
        if isinstance(request, Send):
            assert transport.send(request.message, request.dst, TIMEOUT_S) >= 0.0
            reply = None
        else:
            reply, waited = transport.recv(request.src, TIMEOUT_S)
            assert waited >= 0.0


def _in_turn(name, program, folder, edges, args, num_stages):
    transports = [open_transport(name, s, folder, edges, num_stages) for s in range(num_stages)]
    steps = [program(s, *args) for s in range(num_stages)]
    requests = [s.send(None) for s in steps]
    values = [None] * num_stages
    while any(r is not None for r in requests):
        moved = False
        for stage, (transport, request) in enumerate(zip(transports, requests)):
            if isinstance(request, Send) and transport.can_send(request.dst):
                transport.send(request.message, request.dst, 0.0)
                reply = None
            elif isinstance(request, Recv) and transport.can_recv(request.src):
                reply, _ = transport.recv(request.src, 0.0)
            else:
                continue
            moved = True
            try:
                requests[stage] = steps[stage].send(reply)
            except StopIteration as stop:
                requests[stage], values[stage] = None, stop.value
        assert moved, f"every stage waits: {requests}"
    for transport in transports:
        transport.close(0.0)
    return values


def fill_up(stage_index, folder, name, timeout_s):
    """Messages that stage 0 sends over an edge of depth 3 until there is no room; none is received."""
    transport = open_transport(name, stage_index, folder, [(0, 1, 3, 64)])
    sent = 0
    if stage_index == 0:
        with pytest.raises(TransportTimeout, match="no room within"):
            while sent < 100:
                transport.send(message(step=sent), 1, timeout_s)
                sent += 1
        sign(folder, "full")
    else:
        wait_for(folder, "full")
    transport.abort()
    return sent
