"""The length of what has been added to the weights, beside theirs."""

import pytest
import torch

from pipeline.measure.updates import relative_updates


def test_the_ratio_of_lengths_over_all_matrices_of_a_block():
    before = [[torch.tensor([[3.0, 0.0]]), torch.tensor([[0.0, 4.0]])], [torch.ones(2, 2)]]
    after = [[torch.tensor([[3.0, 3.0]]), torch.tensor([[4.0, 4.0]])], [torch.ones(2, 2)]]
    assert relative_updates(before, after) == [pytest.approx(5 / 5), 0.0]


def test_none_without_a_length_or_without_a_measurement_before():
    assert relative_updates(None, [[torch.ones(1, 1)], []]) == [None, None]
    assert relative_updates([[torch.zeros(2, 1)], []], [[torch.ones(2, 1)], []]) == [None, None]
