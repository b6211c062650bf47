import pytest
import torch

from pipeline.data.activation_cache import ActivationCache, allocator
from pipeline.data.batches import epoch_order

CPU = torch.device("cpu")


def in_memory(shape, dtype):
    return torch.empty(shape, dtype=dtype)


def filled(epoch, seed, num_samples=10, batch_size=4, pieces=(4, 4, 2)):
    """A cache that met a data set (row i holds i, i, i) in the order of ``epoch``, and that data set."""
    x = torch.arange(num_samples, dtype=torch.float32).unsqueeze(1).repeat(1, 3)
    y = torch.arange(num_samples) * 10
    order = torch.arange(num_samples) if seed is None else epoch_order(seed, epoch, num_samples)
    cache = ActivationCache(num_samples, batch_size, seed, in_memory, CPU)
    start = 0
    for size in pieces:
        rows = order[start : start + size]
        cache.put(epoch, start, x[rows], y[rows])
        start += size
    return cache, x, y


@pytest.mark.parametrize("seed", [None, 0, 5])
@pytest.mark.parametrize("pieces", [(4, 4, 2), (10,), (2, 2, 2, 2, 2), (3, 1, 4, 2)], ids=str)
def test_a_later_epoch_is_composed_as_the_data_set_would(seed, pieces):
    cache, x, y = filled(2, seed, pieces=pieces)
    for epoch in (2, 3, 7, 2):
        order = torch.arange(10) if seed is None else epoch_order(seed, epoch, 10)
        for index, rows in enumerate(order.split(4)):
            found_x, found_y = cache.batch(epoch, index)
            assert torch.equal(found_x, x[rows]) and torch.equal(found_y, y[rows])


def test_sizes_are_those_of_the_data_set():
    cache, _, _ = filled(0, 0)
    assert (cache.num_samples, cache.batch_size, cache.num_batches) == (10, 4, 3)
    assert [len(cache.batch(1, i)[1]) for i in range(3)] == [4, 4, 2]


def test_what_is_kept_is_a_copy():
    cache = ActivationCache(2, 2, None, in_memory, CPU)
    x, y = torch.ones(2, 3), torch.ones(2, dtype=torch.int64)
    cache.put(0, 0, x, y)
    x.zero_(), y.zero_()
    cache.batch(0, 0)[0].zero_()
    assert torch.equal(cache.batch(1, 0)[0], torch.ones(2, 3))
    assert cache.batch(1, 0)[1].tolist() == [1, 1]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_shapes_and_dtypes_of_any_kind(dtype):
    cache = ActivationCache(3, 2, None, in_memory, CPU)
    x = torch.randn(3, 2, 4, 4).to(dtype)
    cache.put(0, 0, x, torch.zeros(3, dtype=torch.int64))
    assert cache.batch(0, 0)[0].dtype == dtype
    assert torch.equal(torch.cat([cache.batch(0, i)[0] for i in range(2)]), x)


def test_nothing_can_be_taken_before_it_was_put():
    with pytest.raises(AssertionError, match="an epoch that stores comes first"):
        ActivationCache(2, 2, None, in_memory, CPU).batch(0, 0)


@pytest.mark.parametrize(
    ("where", "limit_bytes", "in_file"),
    [("memory", 0, False), ("file", 10**9, True), ("auto", 48, False), ("auto", 47, True)],
)
def test_where_a_cache_lies(tmp_path, where, limit_bytes, in_file):
    kept = allocator(where, limit_bytes, tmp_path)((3, 2, 2), torch.float32)  # 48 bytes
    assert (kept.shape, kept.dtype) == ((3, 2, 2), torch.float32)
    assert kept.is_shared() == in_file
    assert list(tmp_path.iterdir()) == []  # a file has no name there
    values = torch.randn(3, 2, 2)
    kept[:] = values
    assert torch.equal(kept, values)


def test_a_cache_in_a_file(tmp_path):
    cache = ActivationCache(4, 2, 1, allocator("file", 0, tmp_path), CPU)
    x, y = torch.randn(4, 3), torch.arange(4)
    order = epoch_order(1, 0, 4)
    cache.put(0, 0, x[order], y[order])
    later = epoch_order(1, 1, 4)
    assert torch.equal(torch.cat([cache.batch(1, i)[0] for i in range(2)]), x[later])
