"""The ends of an edge over a TCP stream, both in this process."""

import errno
import socket
import time

import pytest
import torch
from torch.multiprocessing.reductions import StorageWeakRef

from pipeline.engine.message import Kind, Message
from pipeline.errors import TransportTimeout
from pipeline.schedules.position import Position
from workers.transport import Edge
from workers.transports._group import stream
from workers.transports._group.stream import StreamReceiver, StreamSender

LARGE = 6_000_000
"""Numbers of a message that no socket buffer holds."""


@pytest.fixture
def ends():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        theirs, _ = listener.accept()
    edge = Edge(0, 1, 4, 64)
    pair = StreamSender(edge, ours), StreamReceiver(edge, theirs, torch.device("cpu"))
    yield pair
    for end in pair:
        end.close()


def message(step, *tensors):
    return Message(Kind.TRAIN, Position(0, step), 1.0, tensors)


def test_a_reader_that_does_not_read_holds_nobody_up_and_gets_what_was_sent(ends):
    """What the kernel did not take is a copy, and the messages behind it keep their order."""
    sender, receiver = ends
    body = torch.empty(LARGE)
    for step in range(4):
        body.fill_(step)
        sender.send(message(step, body, torch.tensor([step])), 1.0)
        body.fill_(-1.0)
    with pytest.raises(TransportTimeout, match=r"no room within 0\.1 s \(queue depth: 4\)"):
        sender.send(message(4, body), 0.1)
    for step in range(4):
        received, _ = receiver.recv(20.0)
        assert received.position.step == step and bool((received.tensors[0] == step).all())
        assert int(received.tensors[1]) == step
    sender.drain(20.0)
    assert sender.num_bytes >= 4 * 4 * LARGE


@pytest.mark.parametrize("name", ["_MOST_SELECTED", "_COPY_BYTES_PER_S"])
def test_what_is_not_waited_for_is_sent_all_the_same(ends, monkeypatch, name):
    monkeypatch.setattr(stream, name, 0 if name == "_MOST_SELECTED" else 1e99)
    sender, receiver = ends
    for step in range(3):
        sender.send(message(step, torch.full((LARGE,), step)), 1.0)
    assert [int(receiver.recv(20.0)[0].tensors[0][-1]) for _ in range(3)] == [0, 1, 2]


def test_a_receiver_lets_go_of_what_it_has_handed_out(ends):
    sender, receiver = ends
    sender.send(message(0, torch.zeros(LARGE)), 1.0)
    received, _ = receiver.recv(20.0)
    memory = StorageWeakRef(received.tensors[0].untyped_storage())
    assert not memory.expired()
    del received
    assert memory.expired()


class OutOfReach:
    """A socket whose other end's host has gone."""

    def __getattr__(self, name):
        def fail(*arguments):
            raise OSError(errno.EHOSTUNREACH, "No route to host")

        return {"setsockopt": lambda *a: None, "getsockname": lambda: ("a",), "getpeername": lambda: ("b",)}.get(
            name, fail
        )


def test_a_host_out_of_reach_is_a_stage_that_is_gone():
    edge = Edge(0, 1, 4, 64)
    with pytest.raises(TransportTimeout, match="stage 0 -> stage 1: stage 1 is gone"):
        StreamSender(edge, OutOfReach()).send(message(0, torch.ones(5)), 1.0)
    receiver = StreamReceiver(edge, OutOfReach(), torch.device("cpu"))
    with pytest.raises(TransportTimeout, match="stage 0 -> stage 1: stage 0 is gone"):
        receiver.recv(1.0)
    assert receiver.fill() == 0


def test_half_a_message_is_completed_by_the_next_call(ends):
    sender, receiver = ends
    sender.send(message(0, torch.ones(LARGE)), 1.0)
    shown = 0
    while True:
        try:
            received, waited = receiver.recv(1e-6)
            break
        except TransportTimeout as late:
            assert "nothing came within" in str(late)
            shown += 1
            assert shown < 1_000_000
    assert bool((received.tensors[0] == 1.0).all()) and waited <= 20.0


def test_a_header_larger_than_what_is_read_at_once(ends):
    """In the middle of what is read, behind another message."""
    sender, receiver = ends
    wide = [torch.full((1,) * 60, n) for n in range(400)]
    for step in range(3):
        sender.send(message(step, torch.arange(step * 1000)), 1.0)
        sender.send(message(step, *wide), 1.0)
        assert torch.equal(receiver.recv(5.0)[0].tensors[0], torch.arange(step * 1000))
        received, _ = receiver.recv(5.0)
        assert [int(t) for t in received.tensors] == list(range(400)) and received.tensors[0].dim() == 60


def test_messages_that_have_come_count_before_they_are_taken(ends):
    sender, receiver = ends
    for step in range(3):
        sender.send(message(step, torch.ones(5)), 1.0)
    deadline = time.monotonic() + 20.0
    while receiver.fill() < 3:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    sender.close()
    assert [receiver.recv(1.0)[0].position.step for _ in range(3)] == [0, 1, 2]
    with pytest.raises(TransportTimeout, match="stage 0 -> stage 1: stage 0 is gone"):
        receiver.recv(1.0)


def test_a_reader_that_goes_while_a_message_is_on_its_way(ends):
    sender, receiver = ends
    sender.send(message(0, torch.ones(LARGE)), 1.0)
    receiver.close()
    with pytest.raises(TransportTimeout, match="stage 1 did not take all that was sent within 5 s"):
        sender.drain(5.0)
    deadline = time.monotonic() + 20.0
    with pytest.raises(TransportTimeout, match="stage 0 -> stage 1: stage 1 is gone"):
        while time.monotonic() < deadline:
            sender.send(message(1, torch.ones(5)), 1.0)
            sender._free = 4  # as though it had taken them
