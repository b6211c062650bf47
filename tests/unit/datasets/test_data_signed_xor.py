"""Points of a square, labelled by the sign of their product."""

import pytest
import torch

from pipeline.datasets.signed_xor import build
from pipeline.errors import ConfigError


def test_labels_say_whether_the_signs_agree(tmp_path):
    data = build(tmp_path, num_train=4000, num_test=30)
    train, test = data.load()
    assert train.x.shape == (4000, 2) and test.x.shape == (30, 2)
    assert torch.equal(train.y, (train.x.prod(1) >= 0).long())
    assert train.x.min() >= -1 and train.x.max() <= 1
    # Uniform on the square: mean 0, variance 1/3, both classes alike; about five standard errors.
    assert train.x.mean(0).abs().max() < 0.05
    assert (train.x.var(0) - 1 / 3).abs().max() < 0.03
    assert abs(train.y.float().mean() - 0.5) < 0.04


def test_the_default_is_that_of_the_reference(tmp_path):
    spec = build(tmp_path).spec
    assert (spec.input_shape, spec.task.num_outputs, spec.num_train, spec.num_test) == ((2,), 1, 1000, 1000)


def test_points_depend_on_the_sample_seed_alone(tmp_path):
    first, other = build(tmp_path).load()[0], build(tmp_path, sample_seed=1).load()[0]
    assert torch.equal(first.x, build(tmp_path, num_test=5).load()[0].x)
    assert not torch.equal(first.x, other.x)
    assert not torch.equal(first.x, build(tmp_path).load()[1].x)


def test_noise_moves_points_after_they_are_labelled(tmp_path):
    clean, noisy = build(tmp_path).load()[0], build(tmp_path, noise=0.1).load()[0]
    assert torch.equal(clean.y, noisy.y)
    assert abs((noisy.x - clean.x).std() - 0.1) < 0.01


@pytest.mark.parametrize("option", [{"num_train": 0}, {"num_test": 0}, {"noise": -0.5}])
def test_options_out_of_range_are_refused(tmp_path, option):
    ((name, value),) = option.items()
    with pytest.raises(ConfigError, match=rf"out of range \(given: dataset.{name}={value}, expected:"):
        build(tmp_path, **option)
