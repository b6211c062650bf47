"""Training by ADMM: weights, activations and pre-activations of all samples in turn, each by its closed form.

With z_l the pre-activations, a_l the activations, h the rectifier, beta and gamma weights of the penalties: ``W_l = z_l
a_(l-1)^+``; ``a_l = (beta W_(l+1)^T W_(l+1) + gamma I)^-1 (beta W_(l+1)^T z_(l+1) + gamma h(z_l))``; z_l minimises
``gamma (a - h(z))^2 + beta (z - W a)^2`` entry by entry, the output's z ``loss(z, y) + z lambda + beta (z - W a)^2``;
and ``lambda += beta (z_L - W_L a_(L-1))``, after the first iterations without.

Source: Taylor, Burmeister, Xu, Singh, Patel and Goldstein, "Training Neural Networks Without Gradients: A Scalable ADMM
Approach" (2016); its hinge loss, one for each class; from memory.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["Admm", "closest", "output_step"]

_WARM_UP = 5
"""Iterations before lambda moves."""
_RIDGE = 1e-6
"""Share of the mean diagonal that keeps a pseudo-inverse finite where inputs depend on each other."""


class Admm:
    """Rectifier net without biases; one row for each sample.

    Args:
        widths: of all layers, the input's and the output's among them.
        beta, gamma: weights of the penalties.
    """

    def __init__(self, widths: Sequence[int], beta: float = 1.0, gamma: float = 10.0) -> None:
        self.widths, self.beta, self.gamma = list(widths), beta, gamma
        self.weights: list[Tensor] = []
        self._z: list[Tensor] = []
        self._a: list[Tensor] = []
        self._multiplier = torch.zeros(())
        self._iterations = 0

    def forward(self, x: Tensor) -> list[Tensor]:
        """Pre-activations of every layer, (samples, width), for x, (samples, features)."""
        found = []
        for weight in self.weights:
            found.append(x @ weight.t())
            x = found[-1].relu()
        return found

    def iterate(self, x: Tensor, y: Tensor) -> None:
        """One pass over all layers. Args: x (samples, features), y (samples,) int64."""
        if not self.weights:
            self._begin(x)
        labels = F.one_hot(y, self.widths[-1]).to(x.dtype)
        inputs = [x, *self._a]
        for k in range(len(self._z) - 1):
            self.weights[k] = _solved(inputs[k], self._z[k])
            self._a[k] = inputs[k + 1] = self._activation(k)
            self._z[k] = closest(inputs[k] @ self.weights[k].t(), self._a[k], self.beta, self.gamma)
        self.weights[-1] = _solved(inputs[-1], self._z[-1])
        ahead = inputs[-1] @ self.weights[-1].t()
        self._z[-1] = output_step(ahead, self._multiplier, labels, self.beta)
        self._iterations += 1
        if self._iterations > _WARM_UP:
            self._multiplier = self._multiplier + self.beta * (self._z[-1] - ahead)

    def _begin(self, x: Tensor) -> None:
        """Those of a forward pass with torch's own initial weights: where the source draws them, they fit nothing, and
        it takes many iterations to forget them."""
        layers = [nn.Linear(a, b, bias=False, dtype=x.dtype) for a, b in pairwise(self.widths)]
        self.weights = [layer.weight.detach() for layer in layers]
        self._z = self.forward(x)
        self._a = [z.relu() for z in self._z[:-1]]
        self._multiplier = torch.zeros_like(self._z[-1])

    def _activation(self, layer: int) -> Tensor:
        weight = self.weights[layer + 1]
        matrix = self.beta * weight.t() @ weight + self.gamma * torch.eye(weight.shape[1], dtype=weight.dtype)
        right = self.beta * self._z[layer + 1] @ weight + self.gamma * self._z[layer].relu()
        found: Tensor = torch.linalg.solve(matrix, right.t())
        return found.t()


def _solved(rows: Tensor, targets: Tensor) -> Tensor:
    """W, (out, in), of least squares from rows to targets."""
    gram = rows.t() @ rows
    gram.diagonal().add_(_RIDGE * gram.diagonal().mean())
    found: Tensor = torch.linalg.solve(gram, rows.t() @ targets)
    return found.t()


def closest(ahead: Tensor, activation: Tensor, beta: float, gamma: float) -> Tensor:
    """z that minimises ``gamma (activation - relu(z))^2 + beta (z - ahead)^2``, entry by entry."""
    above = ((gamma * activation + beta * ahead) / (gamma + beta)).clamp_min(0.0)
    below = ahead.clamp_max(0.0)

    def cost(z: Tensor) -> Tensor:
        return gamma * (activation - z.relu()).square() + beta * (z - ahead).square()

    return torch.where(cost(above) <= cost(below), above, below)


def output_step(ahead: Tensor, multiplier: Tensor, labels: Tensor, beta: float) -> Tensor:
    """z that minimises ``hinge(z, label) + z multiplier + beta (z - ahead)^2``, entry by entry: a convex function.

    The hinge is ``max(1 - z, 0)`` for the right class and ``max(z, 0)`` for the others.
    """
    rest = ahead - multiplier / (2.0 * beta)
    right = torch.where(rest >= 1.0, rest, (rest + 0.5 / beta).clamp_max(1.0))
    wrong = torch.where(rest <= 0.0, rest, (rest - 0.5 / beta).clamp_min(0.0))
    return torch.where(labels > 0.5, right, wrong)
