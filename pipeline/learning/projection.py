"""Projections of the output error to the features of a block: fixed or learned matrices, or a fixed random net."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from pipeline.learning.dense import accumulate
from pipeline.numerics.autocast import exact_product

__all__ = ["Projection", "ProjectionOptions"]

_HIDDEN = 64
"""Units of the net."""


@dataclass(frozen=True)
class ProjectionOptions:
    """Options of the projection."""

    projection: Literal["linear", "mlp"] = "linear"
    """``mlp``: a fixed random net of 64 tanh units that reads each sample's own error, without the mean's 1/B."""
    matrix: Literal["uniform", "orthogonal", "learned"] = "uniform"
    """Of a linear projection: fixed, uniform in +-1/sqrt(features) or with orthogonal rows (columns, where outputs are
    more than features) of as large entries; or learned from uniform ones like the output weights (Kolen and Pollack
    1994). ``optimizer.weight_decay`` decays it and the weights alike, and only then do they become one."""

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
            nn.init.orthogonal_(matrix).mul_(3.0**-0.5 * max(num_outputs / size, 1.0) ** 0.5)
        if options.matrix == "learned":
            rule.register_parameter("matrix", nn.Parameter(matrix))
        else:
            rule.register_buffer("matrix", matrix)

    @torch.no_grad()
    def __call__(self, error: Tensor, weight: float) -> Tensor:
        """Projects an error that carries ``weight / batch``: (batch, outputs) to (batch, features); of an error at
        positions, (batch, *positions, outputs), each is a row."""
        error = error.flatten(0, -2)
        matrix: Tensor = self._rule.matrix  # type: ignore[assignment]
        if self.options.projection == "linear":
            return torch.mm(error, matrix)
        share = weight / len(error)
        hidden: Tensor = self._rule.hidden  # type: ignore[assignment]
        return torch.mm(torch.tanh(torch.mm(error / share, hidden)), matrix).mul_(share)

    @torch.no_grad()
    def learn(self, error: Tensor, features: Tensor) -> None:
        """Adds the gradient of a learned matrix, which is that of output weights that read these features.

        Args:
            error: as above.
            features: at the place where the error enters, (batch, ...).
        """
        matrix = self._rule.matrix
        if isinstance(matrix, nn.Parameter):
            rows = features.flatten(0, -2) if error.dim() > 2 else features.flatten(1)
            accumulate(matrix, exact_product(error.flatten(0, -2).t().to(matrix.dtype), rows.to(matrix.dtype)))
