"""Non-differentiable activations: thresholds, Bernoulli sampling, winner-take-all.

A hidden block's body is ``Sequential([flatten], linear, [norm], f, [g])``: f is smooth, and g, where there is one, is
one of these. Their derivative under autograd is torch's own, 0 for thresholds and samples; a rule that bypasses g
finds it in the block as an instance of :class:`NonDifferentiable`.
"""

from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["Bernoulli", "LocalWinner", "NonDifferentiable", "Sign", "SoftLocalWinner", "Step"]


class NonDifferentiable(nn.Module):
    """Hard part g of a unit ``g(f(a))``, which rules bypass in the backward pass. It has no parameters."""


class Sign(NonDifferentiable):
    """Sign: -1 below 0, else +1. Its derivative is 0."""

    def forward(self, v: Tensor) -> Tensor:
        """Any shape to the same shape."""
        return _flat(v, (v >= 0).to(v.dtype) * 2.0 - 1.0)


class Step(NonDifferentiable):
    """Heaviside step: 0 below 0, else 1; the *signum* of the footnote to Ororbia et al. 2018. Its derivative is 0."""

    def forward(self, v: Tensor) -> Tensor:
        """Any shape to the same shape."""
        return _flat(v, (v >= 0).to(v.dtype))


class Bernoulli(NonDifferentiable):
    """Bernoulli sample: 1 with probability v, else 0; drawn in every call, in evaluation too. Its derivative is 0."""

    def forward(self, v: Tensor) -> Tensor:
        """Probabilities of any shape to a sample of the same shape."""
        # torch.bernoulli takes four times as long; random numbers in bfloat16 are multiples of 1/256.
        dtype = torch.promote_types(v.dtype, torch.float32)
        return _flat(v, (torch.rand_like(v, dtype=dtype) < v).to(v.dtype))


class _Groups(NonDifferentiable):
    """Base of units that compete in groups of neighbours.

    Args:
        group: units in one group; divides the number of features.
    """

    def __init__(self, group: int) -> None:
        super().__init__()
        self.group = group

    def extra_repr(self) -> str:
        return f"group={self.group}"


class LocalWinner(_Groups):
    """Local winner-take-all: the largest value of each group is kept, the others become 0.

    On ties the lowest index wins. The derivative is 1 for the winner and 0 for the others.

    Source: Srivastava, Masci, Kazerounian, Gomez and Schmidhuber, "Compete to Compute" (2013).
    """

    def forward(self, v: Tensor) -> Tensor:
        """(batch, features) to the same shape."""
        groups = v.reshape(len(v), -1, self.group)
        winner = groups.argmax(2, keepdim=True)
        kept = torch.zeros_like(groups).scatter(2, winner, groups.gather(2, winner))
        return kept.flatten(1)


class SoftLocalWinner(_Groups):
    """Soft local winner-take-all: softmax inside each group.

    It is differentiable, and rules bypass it like the others.

    Source: Ororbia, Mali, Kifer and Giles, "Conducting Credit Assignment by Aligning Local Representations" (2018).
    """

    def forward(self, v: Tensor) -> Tensor:
        """(batch, features) to the same shape."""
        return v.reshape(len(v), -1, self.group).softmax(2).flatten(1)


class _Flat(torch.autograd.Function):
    """Function of the first argument with the values of the second and derivative 0."""

    @staticmethod
    def forward(ctx: Any, v: Tensor, values: Tensor) -> Tensor:
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return torch.zeros_like(grads[0]), None


def _flat(v: Tensor, values: Tensor) -> Tensor:
    """``values`` with a graph down to ``v``, so that autograd returns zeros and raises no error."""
    if not (torch.is_grad_enabled() and v.requires_grad):
        return values
    flat: Tensor = _Flat.apply(v, values)  # type: ignore[no-untyped-call]
    return flat
