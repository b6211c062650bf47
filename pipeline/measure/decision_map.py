"""Decision maps of two-dimensional data at every block.

A map is the value of a block's decoder over a grid of points. Its boundary is the contour half way between the mean
values of the two classes, not at 0.5, since an untrained decoder never reaches its targets.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["GRID", "DecisionMap", "Extent", "extent_of"]

GRID = 60
"""Points along each side."""

Values = Callable[[Tensor], list[Tensor]]
"""Maps points (n, 2) to the scores of every block, (n, 1) or (n, 2) each."""


@dataclass(frozen=True)
class Extent:
    """Rectangle of the plane that a decision map covers."""

    low: tuple[float, float]
    high: tuple[float, float]

    def axes(self) -> Tensor:
        """Coordinates of the grid's columns and rows, (2, GRID) float32."""
        pairs = zip(self.low, self.high, strict=True)
        return torch.stack([torch.linspace(low, high, GRID) for low, high in pairs])

    def points(self) -> Tensor:
        """All points of the grid, (GRID * GRID, 2), row by row: the second coordinate is the row."""
        across, up = self.axes()
        rows, columns = torch.meshgrid(up, across, indexing="ij")
        return torch.stack([columns.flatten(), rows.flatten()], 1)


def extent_of(x: Tensor) -> Extent:
    """Bounding rectangle of samples (n, 2), rounded outwards to tenths: the square [-1, 1]^2 for signed_xor."""
    (left, bottom), (right, top) = torch.floor(x.amin(0) * 10).tolist(), torch.ceil(x.amax(0) * 10).tolist()
    return Extent((left / 10, bottom / 10), (right / 10, top / 10))


@dataclass(frozen=True)
class DecisionMap:
    """Decision maps of all blocks."""

    values: Tensor
    """(blocks, GRID, GRID) float32: [block, row, column]."""
    levels: Tensor
    """Value of the boundary's contour, (blocks,) float32; nan where a class has no sample."""

    @classmethod
    def of(cls, values: Values, extent: Extent, x: Tensor, y: Tensor) -> "DecisionMap":
        """Compute the maps.

        Args:
            values: see :data:`Values`.
            extent: rectangle of the maps.
            x: samples of both classes, (n, 2).
            y: their labels, (n,).
        """
        grid = [_signed(scores).view(GRID, GRID) for scores in values(extent.points().to(x.device))]
        levels = [(v[y == 0].mean() + v[y == 1].mean()) / 2 for v in (_signed(scores) for scores in values(x))]
        return cls(torch.stack(grid).float().cpu(), torch.stack(levels).float().cpu())


def _signed(scores: Tensor) -> Tensor:
    """One number per point, (n,): the score, or that of class 1 minus that of class 0."""
    return scores[:, 0] if scores.shape[1] == 1 else scores[:, 1] - scores[:, 0]
