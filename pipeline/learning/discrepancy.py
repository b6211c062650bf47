"""How local representation alignment measures a representation against its target, and bounds what it makes of it."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

__all__ = ["Discrepancy", "bounded", "discrepancy"]

Discrepancy = Literal["cauchy", "l2", "l1"]


def bounded(v: Tensor, limit: float, *, rows: bool) -> Tensor:
    """``v * min(1, limit / ||v||)``: as it is below the limit, of exactly that norm above it.

    Args:
        v: rows (batch, features), or a gradient of any shape.
        limit: of the Euclidean (Frobenius) norm; 0 for none.
        rows: whether each row has a norm of its own.
    """
    if not limit:
        return v
    norm: Tensor = torch.linalg.vector_norm(v, dim=1, keepdim=True) if rows else torch.linalg.vector_norm(v)
    return v / norm.mul_(1.0 / limit).clamp_(min=1.0)


def discrepancy(name: Discrepancy, r: Tensor) -> tuple[Tensor, Tensor]:
    """The loss of each sample and its derivative by ``r``, the representation minus its target.

    Args:
        name: ``cauchy`` is ``sum log(1 + r^2)`` with derivative ``2 r / (1 + r^2)``, ``l2`` is ``sum r^2 / 2`` with
            ``r``, ``l1`` is ``sum |r|`` with ``sign r``.
        r: (batch, features), without a graph.

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
