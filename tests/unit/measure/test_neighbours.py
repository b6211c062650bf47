"""Votes whose outcome can be counted by hand."""

import pytest
import torch

from pipeline.measure import neighbours
from pipeline.measure.neighbours import neighbours_accuracy


def slow(points, labels, count):
    """The same, in plain Python."""
    right = 0
    for i, at in enumerate(points):
        others = sorted((j for j in range(len(points)) if j != i), key=lambda j: (float((points[j] - at).norm()), j))
        votes = [int(labels[j]) for j in others[:count]]
        most = max(map(votes.count, votes))
        right += next(vote for vote in votes if votes.count(vote) == most) == int(labels[i])
    return right / len(points)


@pytest.mark.parametrize("count", [8, 11, 300])
def test_it_is_the_share_of_right_votes(count):
    """300 points are more than are compared at once, 8 fewer than would vote."""
    points = torch.randint(-6, 7, (count, 2)).float()  # many at equal distances, some at the same place
    labels = (points[:, 0] > 0).long() + torch.randint(0, 2, (count,))
    found = neighbours_accuracy(points, labels)
    assert found == slow(points.double(), labels, 10) and 0 < found < 1


def test_a_point_has_no_vote_on_itself():
    points = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    assert neighbours_accuracy(points, torch.tensor([0, 1, 2])) == 0.0


def test_of_as_many_votes_the_nearest_decides():
    votes = torch.tensor([[2, 1, 1, 2], [1, 2, 2, 1], [3, 2, 2, 1], [0, 0, 0, 0]])
    assert neighbours._winner(votes).tolist() == [2, 1, 2, 0]


def test_a_silent_block_has_no_vote():
    labels = torch.arange(20) % 3
    assert neighbours_accuracy(torch.zeros(20, 2), labels) is None
    one_apart = torch.zeros(20, 2)
    one_apart[-1] = 1.0
    assert neighbours_accuracy(one_apart, labels) is not None
