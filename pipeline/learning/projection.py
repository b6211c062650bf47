"""Projections of the output error to the features of a block: fixed or learned matrices, or a fixed random net."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from pipeline.ranges import NonNegative

__all__ = ["Projection", "ProjectionOptions"]

_HIDDEN = 64
"""Units of the net."""


@dataclass(frozen=True)
class ProjectionOptions:
    """Options of the projection."""

    projection: Literal["linear", "mlp"] = "linear"
    """``mlp``: a fixed random net of 64 tanh units that reads each sample's own error, without the mean's 1/B."""
    matrix: Literal["uniform", "orthogonal", "learned"] = "uniform"
    """Of a linear projection: fixed, uniform in +-1/sqrt(features) or with orthogonal rows of as large entries; or
    learned from there like the output weights (Kolen and Pollack 1994)."""
    matrix_decay: NonNegative = 1e-4
    """``learned``: share of the matrix that is added to its gradient. Give the weights as much (weight_decay)."""

    def __post_init__(self) -> None:
        if self.projection == "mlp" and self.matrix != "uniform":
            raise ValueError(
                f"a net has no such matrix (given: rule.projection = 'mlp' with rule.matrix = {self.matrix!r}, "
                "expected: 'uniform'). Leave rule.matrix out, or set rule.projection to 'linear'."
            )


class Projection:
    """Gives a rule its ``matrix``, and projects errors by it; entries have the root mean square 1/sqrt(3 features).

    Args:
        rule: whose buffer or parameter ``matrix`` it is, (outputs, features); for a net (64, features), and ``hidden``
            is the one before, (outputs, 64).
        options: see :class:`ProjectionOptions`.
        num_outputs: width of the error.
        size: number of features.
    """

    def __init__(self, rule: nn.Module, options: ProjectionOptions, num_outputs: int, size: int) -> None:
        self._rule, self.options = rule, options
        bound = 1.0 / size**0.5
        if options.projection == "mlp":
            # Through tanh' = 1 the product of both has the entries of the linear projection.
            rule.register_buffer("matrix", torch.randn(_HIDDEN, size) * (bound / (3 * _HIDDEN) ** 0.5))
            rule.register_buffer("hidden", torch.randn(num_outputs, _HIDDEN))
            return
        matrix = torch.empty(num_outputs, size).uniform_(-bound, bound)
        if options.matrix == "orthogonal":
            nn.init.orthogonal_(matrix).mul_(3.0**-0.5)
        if options.matrix == "learned":
            rule.register_parameter("matrix", nn.Parameter(matrix))
        else:
            rule.register_buffer("matrix", matrix)

    @torch.no_grad()
    def __call__(self, error: Tensor, weight: float) -> Tensor:
        """Projects an error that carries ``weight / batch``: (batch, outputs) to (batch, features)."""
        matrix: Tensor = self._rule.matrix  # type: ignore[assignment]
        if self.options.projection == "linear":
            return torch.mm(error, matrix)
        share = weight / len(error)
        hidden: Tensor = self._rule.hidden  # type: ignore[assignment]
        return torch.mm(torch.tanh(torch.mm(error / share, hidden)), matrix).mul_(share)

    @torch.no_grad()
    def learn(self, error: Tensor, features: Tensor, weight: float) -> None:
        """Adds the gradient of a learned matrix, which is that of output weights that read these features.

        Args:
            error: as above.
            features: at the place where the error enters, (batch, ...).
            weight: share of the optimizer step's samples.
        """
        matrix = self._rule.matrix
        if isinstance(matrix, nn.Parameter):
            own = torch.mm(error.t(), features.flatten(1).to(error.dtype))
            gradient = own.add_(matrix, alpha=self.options.matrix_decay * weight)
            matrix.grad = gradient if matrix.grad is None else matrix.grad.add_(gradient)
