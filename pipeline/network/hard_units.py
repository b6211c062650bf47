"""What a hidden unit does that has no useful derivative: thresholds, samples, competitions.

A hidden block's body is ``Sequential([flatten], linear, [norm], f, [g])``: f is smooth, and g, where there is one, is
one of these. Forward they are what they say, and backward they have torch's own derivative, which is 0 for thresholds
and samples; a rule that goes around g finds it in the block as an instance of :class:`NonDifferentiable`
(``rules.md`` 2.6, 2.8).
"""

from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["Bernoulli", "LocalWinner", "NonDifferentiable", "Sign", "SoftLocalWinner", "Step"]


class NonDifferentiable(nn.Module):
    """The part g of a unit ``g(f(a))`` around which learning has to find its way. It has no parameters."""


class Sign(NonDifferentiable):
    """-1 below 0, else +1. Its derivative is 0."""

    def forward(self, v: Tensor) -> Tensor:
        """Any shape to the same shape."""
        return _flat(v, (v >= 0).to(v.dtype) * 2.0 - 1.0)


class Step(NonDifferentiable):
    """0 below 0, else 1: the *signum* of the footnote to Ororbia et al. 2018. Its derivative is 0."""

    def forward(self, v: Tensor) -> Tensor:
        """Any shape to the same shape."""
        return _flat(v, (v >= 0).to(v.dtype))


class Bernoulli(NonDifferentiable):
    """1 with probability v, else 0; drawn anew in every call, in evaluation too. Its derivative is 0."""

    def forward(self, v: Tensor) -> Tensor:
        """Probabilities of any shape to a sample of the same shape."""
        # torch.bernoulli takes four times as long; random numbers in bfloat16 are multiples of 1/256.
        dtype = torch.promote_types(v.dtype, torch.float32)
        return _flat(v, (torch.rand_like(v, dtype=dtype) < v).to(v.dtype))


class _Groups(NonDifferentiable):
    """Units that stand in groups of neighbours.

    Args:
        group: units in one group; divides the number of features.
    """

    def __init__(self, group: int) -> None:
        super().__init__()
        self.group = group

    def extra_repr(self) -> str:
        return f"group={self.group}"


class LocalWinner(_Groups):
    """Local winner takes all: the largest of every group stays as it is, the lowest index on ties; the rest is 0.

    Its derivative is 1 for the winner and 0 for the others.

    Source: Srivastava, Masci, Kazerounian, Gomez and Schmidhuber, "Compete to Compute" (2013).
    """

    def forward(self, v: Tensor) -> Tensor:
        """(batch, features) to the same shape."""
        groups = v.reshape(len(v), -1, self.group)
        winner = groups.argmax(2, keepdim=True)
        kept = torch.zeros_like(groups).scatter(2, winner, groups.gather(2, winner))
        return kept.flatten(1)


class SoftLocalWinner(_Groups):
    """Soft local winner takes all: softmax inside every group.

    It has a derivative; rules treat it as they treat the others.

    Source: Ororbia, Mali, Kifer and Giles, "Deep Credit Assignment by Aligning Local Representations" (2018).
    """

    def forward(self, v: Tensor) -> Tensor:
        """(batch, features) to the same shape."""
        return v.reshape(len(v), -1, self.group).softmax(2).flatten(1)


class _Flat(torch.autograd.Function):
    """A function of the first argument, with values given by the second and derivative 0."""

    @staticmethod
    def forward(ctx: Any, v: Tensor, values: Tensor) -> Tensor:
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return torch.zeros_like(grads[0]), None


def _flat(v: Tensor, values: Tensor) -> Tensor:
    """``values`` with a graph down to ``v``, so that whoever differentiates gets zeros and not an error."""
    if not (torch.is_grad_enabled() and v.requires_grad):
        return values
    flat: Tensor = _Flat.apply(v, values)  # type: ignore[no-untyped-call]
    return flat
