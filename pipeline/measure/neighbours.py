"""Vote of the nearest neighbours in a layout: how well it keeps the classes apart, as one number."""

import torch
from torch import Tensor

__all__ = ["NEIGHBOURS", "neighbours_accuracy"]

NEIGHBOURS = 10
"""Points that vote on each one; all others where there are fewer."""
_ROWS = 256
"""Points whose distances are held at once."""


def neighbours_accuracy(points: Tensor, labels: Tensor) -> float | None:
    """Share of points whose class is that of most of their nearest neighbours, the point itself left out.

    Of points at the same distance those that come first are nearer; of classes with as many votes the one wins whose
    nearest voter is nearest.

    Args:
        points: layout, (samples, 2), at least two.
        labels: class of each point, (samples,) int64.

    Returns:
        In [0, 1]; None where all points coincide, which is the layout of a silent block.
    """
    if bool((points == points[0]).all()):
        return None
    points, count = points.double(), len(points)
    right = 0
    for start in range(0, count, _ROWS):
        some = torch.arange(start, min(start + _ROWS, count))
        # Not by a matrix product, whose rounding would order near points by chance.
        apart = torch.cdist(points[some], points, compute_mode="donot_use_mm_for_euclid_dist")
        apart[torch.arange(len(some)), some] = torch.inf
        nearest = apart.argsort(dim=1, stable=True)[:, : min(NEIGHBOURS, count - 1)]
        right += int((_winner(labels[nearest]) == labels[some]).sum())
    return right / count


def _winner(votes: Tensor) -> Tensor:
    """The class of each row, (rows,). Args: votes, classes (rows, voters), the nearest voter first."""
    agreeing = (votes.unsqueeze(2) == votes.unsqueeze(1)).sum(2)  # votes for the class of each voter
    # The first voter for a class of most votes; argmax alone may name any of several.
    first = (agreeing == agreeing.amax(1, keepdim=True)).int().cummax(1).values.sum(1)
    return votes.gather(1, (votes.shape[1] - first).unsqueeze(1)).squeeze(1)
