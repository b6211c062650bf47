"""Maps of a decoder that is known."""

import pytest
import torch

from pipeline.measure.decision_map import GRID, DecisionMap, extent_of


def linear(points):
    """Two blocks: one number for a point, and two."""
    value = 2 * points[:, :1] - points[:, 1:] + 3
    return [value, torch.cat([-value, value], 1)]


def test_a_linear_decoder_is_drawn_where_its_points_lie():
    x = torch.tensor([[-0.96, -0.5], [0.91, 1.73]])
    extent = extent_of(x)
    assert (extent.low, extent.high) == ((-1.0, -0.5), (1.0, 1.8))
    found = DecisionMap.of(linear, extent, x, torch.tensor([0, 1]))
    across, up = extent.axes()
    expected = 2 * across.view(1, -1) - up.view(-1, 1) + 3
    assert found.values.shape == (2, GRID, GRID)
    assert torch.allclose(found.values[0], expected, atol=1e-6)
    assert torch.allclose(found.values[1], 2 * expected, atol=1e-6)
    means = [2 * -0.96 + 0.5 + 3, 2 * 0.91 - 1.73 + 3]
    assert found.levels.tolist() == pytest.approx([sum(means) / 2, sum(means)])


def test_a_class_that_is_missing_leaves_the_level_open():
    x = torch.rand(4, 2)
    found = DecisionMap.of(linear, extent_of(x), x, torch.zeros(4, dtype=torch.int64))
    assert bool(found.levels.isnan().all())
