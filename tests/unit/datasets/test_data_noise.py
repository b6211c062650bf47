"""Noise data: shapes, the seed, and what is refused."""

from pathlib import Path

import pytest
import torch

from pipeline.datasets import noise
from pipeline.errors import ConfigError


def test_samples_have_the_shape_and_the_classes_that_were_asked_for():
    data = noise.build(Path(), shape=(3, 4, 5), num_classes=7, num_train=200, num_test=30)
    train, test = data.load()
    assert train.x.shape == (200, 3, 4, 5) and test.x.shape == (30, 3, 4, 5)
    assert sorted(train.y.unique().tolist()) == list(range(7))
    assert abs(train.x.mean().item()) < 0.05 and abs(train.x.std().item() - 1) < 0.05


def test_the_seed_is_the_data_set():
    first, again, other = (noise.build(Path(), sample_seed=s).load() for s in (0, 0, 1))
    assert torch.equal(first[0].x, again[0].x) and torch.equal(first[1].y, again[1].y)
    assert not torch.equal(first[0].x, other[0].x) and not torch.equal(first[0].x[:64], first[1].x)


@pytest.mark.parametrize("name, value, least", [("num_classes", 1, 2), ("num_train", 0, 1), ("num_test", 0, 1)])
def test_sizes_below_their_least_are_refused(name, value, least):
    with pytest.raises(ConfigError, match=rf"given: dataset\.{name}={value}, expected: {least} or more"):
        noise.build(Path(), **{name: value})


@pytest.mark.parametrize("shape", [(), (3, 0)])
def test_a_shape_without_values_is_refused(shape):
    with pytest.raises(ConfigError, match=r"dataset\.shape=\[.*sizes of at least 1"):
        noise.build(Path(), shape=shape)
