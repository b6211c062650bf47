"""Memory of large messages is used again, and never while anything of it is."""

import gc

import pytest
import torch

from workers.transports._group.buffers import ReceiveBuffers
from workers.transports._packing import ALIGN

BYTES = 4096


@pytest.fixture
def buffers():
    return ReceiveBuffers(least_bytes=BYTES)


def test_memory_that_was_let_go_is_used_again(buffers):
    first = buffers.take(BYTES)
    place = first.data_ptr()
    del first
    assert buffers.take(BYTES).data_ptr() == place
    assert buffers.take(2 * BYTES).data_ptr() != place, "it is too small"


def test_memory_in_use_keeps_its_values(buffers):
    held = buffers.take(BYTES).fill_(1)
    other = buffers.take(BYTES).fill_(2)
    assert held.data_ptr() != other.data_ptr()
    assert bool((held == 1).all())


def test_memory_that_only_a_graph_holds_is_in_use(buffers):
    """A tensor set over the storage, as unpacking does, and saved for backward."""
    bytes_ = buffers.take(BYTES)
    features = torch.empty(0).set_(bytes_.untyped_storage(), 0, (BYTES // 4,), (1,)).fill_(3.0)
    weight = torch.ones(BYTES // 4, requires_grad=True)
    loss = (weight * features).sum()
    del bytes_, features
    gc.collect()
    buffers.take(BYTES).fill_(0)
    loss.backward()
    assert weight.grad.eq(3.0).all()


def test_a_smaller_message_takes_a_larger_piece(buffers):
    place = buffers.take(2 * BYTES).data_ptr()
    part = buffers.take(BYTES + 1)
    assert (part.data_ptr(), part.numel(), part.untyped_storage().nbytes()) == (place, BYTES + 1, BYTES + 1)


def test_idle_memory_that_is_too_small_is_let_go(buffers):
    for size in range(1, 5):
        buffers.take(size * BYTES)
    assert len(buffers._pieces) == 1


def test_memory_begins_where_torchs_own_would(buffers):
    held = [buffers.take(BYTES + size) for size in (0, 1, 63)]
    assert [tensor.data_ptr() % ALIGN for tensor in held] == [0, 0, 0]


def test_small_messages_have_memory_of_their_own(buffers):
    assert buffers.take(BYTES - 1).shape == (BYTES - 1,)
    assert not buffers._pieces
