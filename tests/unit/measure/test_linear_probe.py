"""The ridge read-out beside least squares written out."""

import numpy as np
import pytest
import torch

from pipeline.measure.linear_probe import RIDGE, LinearProbe


@pytest.mark.parametrize("num_features", [3, 20, 60], ids=["tall", "square", "wide"])
@pytest.mark.parametrize("ridge", [1e-6, RIDGE, 1.0])
def test_it_is_least_squares_with_the_penalty_as_further_rows(num_features, ridge):
    x, targets = torch.randn(20, num_features) * 3 + 1, torch.randn(20, 2)
    f, t = x.double().numpy(), targets.double().numpy()
    centred, wanted = f - f.mean(0), t - t.mean(0)
    alpha = ridge * (centred**2).sum() / min(f.shape)
    rows = np.vstack([centred, np.sqrt(alpha) * np.eye(num_features)])
    weight, *_ = np.linalg.lstsq(rows, np.vstack([wanted, np.zeros((num_features, 2))]), rcond=None)
    found = LinearProbe.fit(x, targets, ridge)
    assert np.allclose(found.weight.numpy(), weight, atol=1e-9)
    assert np.allclose(found(x).numpy(), centred @ weight + t.mean(0), atol=1e-9)


def test_the_scale_of_the_features_does_not_matter():
    x, targets = torch.randn(30, 4), torch.randn(30, 1)
    assert torch.allclose(LinearProbe.fit(x, targets)(x), LinearProbe.fit(1e4 * x, targets)(1e4 * x))


def test_features_that_say_nothing_give_the_mean():
    targets = torch.randn(8, 2)
    assert torch.allclose(LinearProbe.fit(torch.ones(8, 3), targets)(torch.ones(5, 3)), targets.double().mean(0))


def test_maps_are_flattened():
    found = LinearProbe.fit(torch.randn(10, 2, 3, 3), torch.randn(10, 4))
    assert found(torch.randn(5, 2, 3, 3)).shape == (5, 4)
