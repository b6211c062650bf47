"""Smooth activations with derivatives by hand: the operations that autograd would call, without its graph.

At a kink the derivative is that of the sloping side, where autograd has 0: from zero weights every rectifier stands at
one, and none would ever leave it.
"""

from collections.abc import Callable
from typing import Self, cast

import torch
from torch import Tensor, nn

__all__ = ["Smooth", "is_smooth_unit"]

_aten = torch.ops.aten
_Derive = Callable[[Tensor, Tensor, Tensor], Tensor]


class Smooth:
    """A nonlinearity ``z = f(a)`` with its vector-Jacobian product ``d * f'(a)``.

    Args:
        f: the nonlinearity.
        derive: maps d, a and z to ``d * f'(a)``; None leaves that to autograd.
    """

    def __init__(self, f: nn.Module, derive: _Derive | None) -> None:
        run: Callable[[Tensor], Tensor] = f.forward if derive is not None else f
        # The pre-activation is needed again: for the derivative, and to be moved to a target.
        self.run = (lambda a: run(a.clone())) if getattr(f, "inplace", False) else run
        self.is_known = derive is not None
        """True where f is a fixed elementwise function without random numbers, its derivative known by hand."""
        self._derive = derive

    @classmethod
    def of(cls, f: nn.Module) -> Self:
        """The module ``f`` with its derivative, by autograd where its type is not known here or it has hooks."""
        known = _BY_TYPE.get(type(f))
        hooks = ("_forward_hooks", "_forward_pre_hooks")
        return cls(f, known(f) if known is not None and not any(getattr(f, name) for name in hooks) else None)

    def derive(self, d: Tensor, a: Tensor, z: Tensor) -> Tensor:
        """Args: d, a and ``z = f(a)`` of one shape, without graphs. Returns: ``d * f'(a)``."""
        if self._derive is not None:
            return self._derive(d, a, z)
        with torch.enable_grad():
            leaf = a.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(self.run(leaf), leaf, d)
        return gradient


def _identity(_: nn.Module) -> _Derive:
    return lambda d, a, z: d


def _tanh(_: nn.Module) -> _Derive:
    return lambda d, a, z: _tensor(_aten.tanh_backward.default(d, z))


def _sigmoid(_: nn.Module) -> _Derive:
    return lambda d, a, z: _tensor(_aten.sigmoid_backward.default(d, z))


def _relu(_: nn.Module) -> _Derive:
    return lambda d, a, z: d * (a >= 0.0)


def _softsign(_: nn.Module) -> _Derive:
    return lambda d, a, z: d / a.abs().add_(1.0).square_()


def _hardtanh(f: nn.Module) -> _Derive:
    low, high = float(cast(float, f.min_val)), float(cast(float, f.max_val))
    return lambda d, a, z: d * ((a >= low) & (a <= high))


def _softplus(f: nn.Module) -> _Derive:
    beta, threshold = f.beta, f.threshold
    return lambda d, a, z: _tensor(_aten.softplus_backward.default(d, a, beta, threshold))


def _tensor(x: Tensor) -> Tensor:
    return x


_BY_TYPE: dict[type[nn.Module], Callable[[nn.Module], _Derive]] = {
    nn.Identity: _identity,
    nn.Tanh: _tanh,
    nn.Sigmoid: _sigmoid,
    nn.ReLU: _relu,
    nn.Softsign: _softsign,
    nn.Hardtanh: _hardtanh,
    nn.ReLU6: _hardtanh,
    nn.Softplus: _softplus,
}

_OTHERS = (nn.LeakyReLU, nn.ELU, nn.SELU, nn.Mish, nn.GELU, nn.SiLU)
"""Units whose derivative is left to autograd."""


def is_smooth_unit(layer: nn.Module) -> bool:
    """True of a nonlinearity, and of the identity: fixed, elementwise, without parameters or random numbers."""
    return isinstance(layer, _OTHERS) or Smooth.of(layer).is_known
