import os
import socket

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


def test_tokens_that_fill_the_socket_end_with_an_error_and_what_was_sent_arrives(ends):
    """With room in the slots; tokens are read whole or the edge is closed, never half."""
    sender, receiver = ends
    sent = 0
    with pytest.raises(TransportTimeout, match=r"stage 0 -> stage 1: no room within 0\.1 s"):
        while sent < 64:
            sender.send(WIDE, 0.1)
            sent += 1
    assert 0 < sent < 64 and receiver.fill() == sent
    for _ in range(sent):
        message, _ = receiver.recv(1.0)
        assert len(message.tensors) == 100
    with pytest.raises(TransportTimeout, match="stage 0 -> stage 1: (nothing came within|stage 0 is gone)"):
        receiver.recv(0.1)


def test_slots_go_round(ends):
    sender, receiver = ends
    for step in range(200):
        sender.send(Message(Kind.TRAIN, Position(0, step), 1.0, (torch.tensor(step),)), 1.0)
        message, _ = receiver.recv(1.0)
        assert (message.position.step, int(message.tensors[0])) == (step, step)
