"""The sum of a chunk is that of ``.grad``, to the last bit and the sign of a zero."""

import pytest
import torch
from torch import nn

from pipeline.engine.gradients import GradientVector, vectors_of


def parameters(channels_last=False):
    torch.manual_seed(0)
    found = [nn.Parameter(torch.randn(4, 3, 3, 3)), nn.Parameter(torch.randn(7)), nn.Parameter(torch.randn(2, 5))]
    if channels_last:
        found[0].data = found[0].data.contiguous(memory_format=torch.channels_last)
    return found


def gradients(seed, absent=()):
    """Of many magnitudes, so that the order of a sum is seen in its bits."""
    torch.manual_seed(seed)
    shapes = [(4, 3, 3, 3), (7,), (2, 5)]
    found = [torch.randn(s) * 10 ** torch.randint(-4, 4, s).float() for s in shapes]
    found[1][:2] = -0.0
    return [None if k in absent else g for k, g in enumerate(found)]


def exchanged(ps, every, num_chunks):
    """What replicas make of the gradients of micro-batches, each summing its chunk in their order."""
    owners = [GradientVector(ps, num_chunks, own) for own in range(num_chunks)]
    for some in every:
        for p, g in zip(ps, some, strict=True):
            p.grad = None if g is None else g.clone()
        chunks, present = owners[0].take()
        assert all(p.grad is None for p in ps)
        for owner, chunk in zip(owners, chunks, strict=True):
            owner.add(chunk.clone(), present)
    owners[0].put([owner.own_sum() for owner in owners])
    return [p.grad for p in ps]


def in_one_process(every):
    total = [None, None, None]
    for some in every:
        total = [g if t is None else t if g is None else t + g for t, g in zip(total, some, strict=True)]
    return total


def bits(t):
    return None if t is None else t.contiguous().view(torch.int32).tolist()


@pytest.mark.parametrize("num_chunks", [2, 3, 7, 200])
@pytest.mark.parametrize("absent", [[()] * 3, [(1,)] * 3, [(0,), (), (2,)], [(1,), (1, 2), ()], [(0, 1, 2), (1,), ()]])
@pytest.mark.parametrize("channels_last", [False, True])
def test_sums_in_chunks(num_chunks, absent, channels_last):
    every = [gradients(seed, some) for seed, some in enumerate(absent)]
    ps = parameters(channels_last)
    found, wanted = exchanged(ps, every, num_chunks), in_one_process(every)
    assert [bits(g) for g in found] == [bits(g) for g in wanted]
    assert all(g is None or g.stride() == p.stride() for p, g in zip(ps, found, strict=True))


def test_the_order_of_micro_batches_is_in_the_bits():
    every = [gradients(seed) for seed in range(4)]
    assert [bits(g) for g in in_one_process(every)] != [bits(g) for g in in_one_process(every[::-1])]


def test_a_vector_for_each_dtype():
    ps = [nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(2, dtype=torch.float64)), nn.Parameter(torch.ones(1))]
    assert [v.num_parameters for v in vectors_of(ps, 2, 0)] == [2, 1]
    assert vectors_of([], 2, 0) == []


def test_a_second_step_begins_anew():
    ps, owner = parameters(), None
    owner = GradientVector(ps, 1, 0)
    for seed in (1, 2):
        for p, g in zip(ps, gradients(seed), strict=True):
            p.grad = g.clone()
        (chunk,), present = owner.take()
        owner.add(chunk, present)
        owner.put([owner.own_sum()])
        assert [bits(p.grad) for p in ps] == [bits(g) for g in gradients(seed)]
