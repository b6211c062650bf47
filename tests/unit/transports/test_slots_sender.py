import os
import socket
import time
from dataclasses import replace

import pytest
import torch

from pipeline.engine.message import Kind, Message
from pipeline.errors import TransportTimeout
from pipeline.schedules.position import Position
from workers.transport import Edge
from workers.transports._slots.receiver import SlotReceiver
from workers.transports._slots.ring import Slots, anonymous_file
from workers.transports._slots.sender import SlotSender

# A header of several KiB, so that a few fill a small socket buffer.
WIDE = Message(Kind.TRAIN, Position(0, 0), 1.0, tuple(torch.zeros((1,) * 8) for _ in range(100)))


@pytest.fixture
def ends():
    ours, theirs = socket.socketpair()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16384)
    edge = Edge(0, 1, 64, 6400)
    fd = anonymous_file(64 * 6400, "")
    first, second = Slots(fd, 64, 6400), Slots(fd, 64, 6400)
    os.close(fd)
    pair = SlotSender(edge, ours, first), SlotReceiver(edge, theirs, second, torch.device("cpu"))
    yield pair
    for end in pair:
        end.close()


def test_as_many_tokens_are_sent_as_there_are_slots_whatever_the_socket_holds(ends):
    """A thread has those that it does not take, and they arrive in their order, also behind a message of no more."""
    sender, receiver = ends
    for step in range(64):
        assert sender.send(replace(WIDE, position=Position(0, step)), 0.1) == 0.0
    assert 0 < len(sender._backlog) < 64
    with pytest.raises(TransportTimeout, match=r"stage 0 -> stage 1: no room within 0\.1 s \(queue depth: 64\)"):
        sender.send(WIDE, 0.1)
    for step in range(64):
        message, _ = receiver.recv(20.0)
        assert (message.position.step, len(message.tensors)) == (step, 100)
    sender.send(Message(Kind.TRAIN, Position(0, 64), 1.0, ()), 20.0)
    assert receiver.recv(20.0)[0].position.step == 64
    deadline = time.monotonic() + 20.0
    while len(sender._backlog) and time.monotonic() < deadline:  # noted behind the sending of the last one
        time.sleep(0.01)
    assert len(sender._backlog) == 0


def test_a_receiver_that_goes_under_tokens_that_wait_is_news_to_the_sender(ends):
    sender, receiver = ends
    for _ in range(64):
        sender.send(WIDE, 0.1)
    receiver.close()
    sender._backlog._thread.join(20.0)
    assert not sender._backlog._thread.is_alive()
    with pytest.raises(TransportTimeout, match="stage 1 is gone"):
        sender.send(WIDE, 20.0)


def test_an_end_that_is_closed_takes_its_thread_along(ends):
    sender, _ = ends
    for _ in range(64):
        sender.send(WIDE, 0.1)
    sender.close()
    assert not sender._backlog._thread.is_alive()


def test_slots_go_round(ends):
    sender, receiver = ends
    for step in range(200):
        sender.send(Message(Kind.TRAIN, Position(0, step), 1.0, (torch.tensor(step),)), 1.0)
        message, _ = receiver.recv(1.0)
        assert (message.position.step, int(message.tensors[0])) == (step, step)
