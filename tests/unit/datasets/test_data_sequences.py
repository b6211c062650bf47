"""Sequences that are made on the spot, and MNIST row by row."""

import struct
from math import pi

import numpy as np
import pytest
import torch

from pipeline.data.windows import feed_of
from pipeline.datasets import delayed_copy, mnist_rows, sine
from pipeline.errors import ConfigError


@pytest.mark.parametrize("delay", [0, 1, 5])
def test_delayed_copy_says_every_symbol_again(delay):
    data = delayed_copy.build(None, length=6, delay=delay, symbols=3, num_train=40, num_test=10)
    train, test = data.load()
    assert train.x.shape == train.y.shape == (40, 6) and test.x.shape == (10, 6)
    assert torch.equal(train.y[:, delay:], train.x[:, : 6 - delay].to(torch.uint8)) and train.y.dtype == torch.uint8
    assert (train.y[:, :delay] == 3).all() and set(train.x.flatten().tolist()) == {0, 1, 2}
    assert data.spec.task.num_outputs == 4 and data.spec.num_tokens == 3
    assert not torch.equal(train.x[:10], test.x)
    again = delayed_copy.build(None, length=6, delay=delay, symbols=3, num_train=40, num_test=10, sample_seed=1)
    assert not torch.equal(again.load()[0].x, train.x)


def test_nothing_is_due_within_a_sample():
    with pytest.raises(ConfigError, match=r"nothing is due within a sample \(given: dataset\.delay = 6 with .*length"):
        delayed_copy.build(None, length=6, delay=6)


def test_two_sines_go_on_as_they_began():
    train, test = sine.build(None, length=30, periods=(8.0, 11.0), num_train=20, num_test=5).load()
    assert train.x.shape == train.y.shape == (20, 30, 1) and test.x.shape == (5, 30, 1)
    assert torch.equal(train.x[:, 1:], train.y[:, :-1])
    # sin(a + b) + sin(a - b) = 2 sin(a) cos(b), so a sum of sines obeys a recurrence of order four.
    first, second = (2 * torch.cos(torch.tensor(2 * pi / p)) for p in (8.0, 11.0))
    x = train.x[:, :, 0]
    back = (first + second) * (x[:, 3:-1] + x[:, 1:-3]) - (2 + first * second) * x[:, 2:-2] - x[:, :-4]
    torch.testing.assert_close(x[:, 4:], back, rtol=0, atol=1e-5)
    assert x.abs().max() <= 1 and not torch.equal(x[0], x[1])


def test_noise_is_on_inputs_and_labels_alike():
    train, _ = sine.build(None, length=30, noise=0.1, num_train=20, num_test=5).load()
    plain, _ = sine.build(None, length=30, num_train=20, num_test=5).load()
    assert torch.equal(train.x[:, 1:], train.y[:, :-1])
    assert 0.08 < (train.x - plain.x).std() < 0.12


@pytest.fixture
def mnist(tmp_path):
    """Four training and two test images of random pixels."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for name, count in (("train", 4), ("t10k", 2)):
        pixels = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        header = struct.pack(">4B3I", 0, 0, 8, 3, *pixels.shape)
        (folder / f"{name}-images-idx3-ubyte").write_bytes(header + bytes(pixels))
        labels = np.arange(count, dtype=np.uint8)
        (folder / f"{name}-labels-idx1-ubyte").write_bytes(struct.pack(">4BI", 0, 0, 8, 1, count) + bytes(labels))
    return tmp_path


def batch(data):
    return feed_of(data.load()[0], dataset=data, batch_size=4, seed=0, device="cpu", train=False).batch(0, 0)


def test_rows_of_digits_are_a_sequence(mnist):
    data = mnist_rows.build(mnist)
    x, y = batch(data)
    assert x.shape == (4, 28, 28) and y.tolist() == [0, 1, 2, 3] and 0 <= x.min() and x.max() <= 1
    assert data.spec.task.out_shape == (10,)


@pytest.mark.parametrize("normalise", [False, True])
def test_the_next_row_is_what_the_network_would_see(mnist, normalise):
    data = mnist_rows.build(mnist, target="next_row", options=mnist_rows.IdxOptions(normalise=normalise))
    x, y = batch(data)
    assert x.shape == y.shape == (4, 27, 28) and data.spec.task.out_shape == (27, 28)
    torch.testing.assert_close(x[:, 1:], y[:, :-1], rtol=1e-6, atol=1e-6)
    assert bool(x.min() < 0) is normalise
