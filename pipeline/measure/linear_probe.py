"""Linear probe: ridge regression from a block's output to the labels."""

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["RIDGE", "LinearProbe"]

RIDGE = 1e-3
"""Penalty, in units of the mean squared singular value of the centred features, so that the scale of activations,
which differs between rules, does not matter."""


@dataclass(frozen=True)
class LinearProbe:
    """Linear probe ``scores = features W + b``, fitted by ridge regression.

    It serves blocks without a decoder of their own, as under backpropagation.
    """

    weight: Tensor
    """(features, outputs), float64."""
    bias: Tensor
    """(outputs,), float64; not penalised."""

    @classmethod
    def fit(cls, features: Tensor, targets: Tensor, ridge: float = RIDGE) -> "LinearProbe":
        """Fit a probe: minimise ``|T - F W - b|^2 + alpha |W|^2``.

        Args:
            features: F, (samples, ...), flattened.
            targets: T, (samples, outputs).
            ridge: alpha is this times ``|F_c|^2 / min(samples, features)`` with F_c the centred features.
        """
        f, t = features.flatten(1).to(torch.float64, copy=True), targets.double()
        mean, level = f.mean(0), t.mean(0)
        f -= mean  # in place: maps are large
        t = t - level
        alpha = ridge * torch.linalg.vector_norm(f).square() / min(f.shape)
        alpha = torch.where(alpha > 0, alpha, torch.ones_like(alpha))  # constant features carry no information
        if f.shape[1] <= len(f):
            weight = torch.linalg.solve(f.T @ f + alpha * _eye(f.shape[1], f), f.T @ t)
        else:
            weight = f.T @ torch.linalg.solve(f @ f.T + alpha * _eye(len(f), f), t)
        return cls(weight, level - mean @ weight)

    def __call__(self, features: Tensor) -> Tensor:
        """Scores of features, (batch, ...) to (batch, outputs), float64."""
        return features.flatten(1).double() @ self.weight + self.bias


def _eye(size: int, like: Tensor) -> Tensor:
    return torch.eye(size, dtype=like.dtype, device=like.device)
