"""Layouts of points whose neighbours are known."""

import pytest
import torch

from pipeline.measure.tsne import embed


@pytest.mark.parametrize("num_features", [1, 5])
def test_clusters_stay_together(num_features):
    labels = torch.arange(40) % 2
    points = 20.0 * labels.view(-1, 1) + torch.randn(40, num_features)
    found = embed(points.view(40, num_features, 1), seed=3)
    apart = torch.cdist(found, found).fill_diagonal_(torch.inf)
    assert found.shape == (40, 2) and torch.equal(labels[apart.argmin(1)], labels)


def test_the_seed_decides():
    points = torch.randn(12, 4)
    assert torch.equal(embed(points, 5), embed(points, 5))


def test_a_silent_block_is_a_point():
    assert torch.equal(embed(torch.zeros(6, 3), 0), torch.zeros(6, 2))
