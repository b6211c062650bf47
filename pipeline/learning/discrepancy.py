"""Losses of a representation against its target, and norm clipping, for local representation alignment."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

__all__ = ["Discrepancy", "bounded", "discrepancy"]

Discrepancy = Literal["cauchy", "l2", "l1"]


def bounded(v: Tensor, limit: float, *, rows: bool) -> Tensor:
    """Clip a norm: ``v * min(1, limit / ||v||)``.

    Args:
        v: rows (batch, features), or a gradient of any shape.
        limit: maximum Euclidean (Frobenius) norm; 0 for none.
        rows: True clips the norm of each row, False that of the whole tensor.

    Returns:
        A tensor of the shape of ``v``.
    """
    if not limit:
        return v
    norm: Tensor = torch.linalg.vector_norm(v, dim=1, keepdim=True) if rows else torch.linalg.vector_norm(v)
    return v / norm.mul_(1.0 / limit).clamp_(min=1.0)


def discrepancy(name: Discrepancy, r: Tensor) -> tuple[Tensor, Tensor]:
    """Loss of each sample, and its derivative by the residual.

    Args:
        name: ``cauchy`` is ``sum log(1 + r^2)`` with derivative ``2 r / (1 + r^2)``, ``l2`` is ``sum r^2 / 2`` with
            ``r``, ``l1`` is ``sum |r|`` with ``sign r``.
        r: residual, the representation minus its target, (batch, features), without a graph.

    Returns:
        Losses, (batch,), and the derivative, of the shape of ``r``.
    """
    return _BY_NAME[name](r)


def _cauchy(r: Tensor) -> tuple[Tensor, Tensor]:
    squares = r * r
    losses = torch.log1p(squares).sum(1)
    return losses, (r + r).div_(squares.add_(1.0))


def _l2(r: Tensor) -> tuple[Tensor, Tensor]:
    return (r * r).sum(1).mul_(0.5), r


def _l1(r: Tensor) -> tuple[Tensor, Tensor]:
    return r.abs().sum(1), r.sign()


_BY_NAME: dict[str, Callable[[Tensor], tuple[Tensor, Tensor]]] = {"cauchy": _cauchy, "l2": _l2, "l1": _l1}
