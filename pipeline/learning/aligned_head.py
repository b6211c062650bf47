"""Linear head with a fixed random feedback matrix: feedback alignment inside one block."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import Function, once_differentiable

from pipeline.learning.affine import Affine, back_through
from pipeline.learning.heads import PooledHead

__all__ = ["AlignedHead"]


class _Align(Function):
    """Identity on ``scores`` whose backward pass also sends their error to ``rows``, through ``matrix``."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, rows: Tensor, matrix: Tensor, linear: Affine) -> Tensor:
        ctx.save_for_backward(matrix)
        ctx.linear, ctx.shape = linear, rows.shape
        return scores.view_as(scores)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, error: Tensor) -> tuple[Tensor, Tensor, None, None]:
        (matrix,) = ctx.saved_tensors
        return error, back_through(ctx.linear, matrix, error, ctx.shape), None, None


class AlignedHead(PooledHead):
    """Pooled head, weight and bias 0 at the start, whose input gets the error ``e B`` in place of ``e W``.

    B has the weight's shape, is drawn uniform in +-1/sqrt(features) and never trained; weight and bias are trained
    by their exact gradients. The block learns while the weight is still 0.

    Args:
        shape: see :class:`PooledHead`.
        num_outputs: width of the head's output.
        dimdec: see :class:`PooledHead`.
    """

    matrix: Tensor

    def __init__(self, shape: tuple[int, ...], num_outputs: int, dimdec: int) -> None:
        super().__init__(shape, num_outputs, dimdec)
        nn.init.zeros_(self.linear.bias)
        bound = 1.0 / self.linear.in_features**0.5
        matrix = torch.empty_like(self.linear.weight, requires_grad=False)
        self.register_buffer("matrix", matrix.uniform_(-bound, bound))

    def forward(self, h: Tensor) -> Tensor:
        """Args: h (batch, *shape). Returns: (batch, num_outputs)."""
        rows = self.pool(h).flatten(1)
        scores: Tensor = self.linear(rows.detach())
        aligned: Tensor = _Align.apply(scores, rows, self.matrix, self.linear)  # type: ignore[no-untyped-call]
        return aligned
