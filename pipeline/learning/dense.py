"""A linear map and its nonlinearity, differentiated by hand.

Autograd costs a small block more than its arithmetic: building and walking the graph takes longer than the products
of a 128 x 128 layer. A block's own gradient needs no graph, since nothing is sent back to the block below: two
products forward and back, and one small operation for the nonlinearity. The operations are those that autograd calls,
in its order, so the bits are the same; the tests hold the two against each other.
"""

from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor, nn

from pipeline.network.block import Block

__all__ = ["Dense", "accumulate"]

_aten = torch.ops.aten
_relu_backward = _aten.threshold_backward.default
_tanh_backward = _aten.tanh_backward.default
_sigmoid_backward = _aten.sigmoid_backward.default


def _relu(a: Tensor) -> Tensor:
    return a.relu_()


def _relu_derivative(dh: Tensor, h: Tensor) -> Tensor:
    derivative: Tensor = _relu_backward(dh, h, 0)
    return derivative


_NONLINEARITIES: dict[type[nn.Module], tuple[Callable[[Tensor], Tensor], Callable[[Tensor, Tensor], Tensor]]] = {
    nn.ReLU: (_relu, _relu_derivative),
    nn.Tanh: (torch.tanh_, _tanh_backward),
    nn.Sigmoid: (torch.sigmoid_, _sigmoid_backward),
}
"""In place forward, and the derivative from its output: nothing but that output is kept."""


class Dense:
    """A body of ``nn.Linear`` and at most one nonlinearity from the table above, its input flattened.

    Args:
        linear: the map; its parameters are trained.
        activation: the nonlinearity's class, None for none.
    """

    def __init__(self, linear: nn.Linear, activation: type[nn.Module] | None) -> None:
        # The parameters themselves: a module looks each of them up anew, which costs as much as a small operation.
        self._weight, self._bias = linear.weight, linear.bias
        run, derive = (None, None) if activation is None else _NONLINEARITIES[activation]
        self._run: Callable[[Tensor], Tensor] | None = run
        self._derive: Callable[[Tensor, Tensor], Tensor] | None = derive

    @classmethod
    def of(cls, block: Block, in_shape: tuple[int, ...]) -> Self | None:
        """The block's body in this form, or None where it is anything else or has hooks.

        Args:
            block: whose body is looked at.
            in_shape: of one sample: a vector, or anything that the body flattens first.
        """
        layers = _layers(block.body)
        if layers and type(layers[0]) is nn.Flatten and layers[0].start_dim == 1 and layers[0].end_dim == -1:
            layers = layers[1:]
        elif len(in_shape) != 1:
            return None
        if not layers or type(layers[0]) is not nn.Linear or layers[0].bias is None:
            return None
        if not all(p.requires_grad and not p._backward_hooks for p in layers[0].parameters()):
            return None
        if len(layers) == 1:
            return cls(layers[0], None)
        known = len(layers) == 2 and type(layers[1]) in _NONLINEARITIES
        return cls(layers[0], type(layers[1])) if known else None

    def forward(self, x: Tensor) -> Tensor:
        """(batch, ...) without a graph to (batch, features) without a graph."""
        rows = x if x.dim() == 2 else x.flatten(1)
        a = torch.addmm(self._bias.detach(), rows, self._weight.detach().t())
        return a if self._run is None else self._run(a)

    def learn(self, x: Tensor, h: Tensor, dh: Tensor) -> Tensor:
        """Adds the gradients of weight and bias.

        Args:
            x: the input that :meth:`forward` was given.
            h: what it returned, unchanged since.
            dh: derivative of the loss by ``h``, (batch, features).

        Returns:
            The derivative by the map's output, before its nonlinearity; (batch, features).
        """
        delta = dh if self._derive is None else self._derive(dh, h)
        accumulate(self._weight, torch.mm(delta.t(), x if x.dim() == 2 else x.flatten(1)))
        accumulate(self._bias, delta.sum(0))
        return delta


def _layers(body: nn.Module) -> list[nn.Module]:
    """The layers that ``body`` runs one after another, none where somebody wants to be called on the way.

    A subclass of ``nn.Sequential`` may do something else with its layers, and is then one layer itself.
    """
    plain = type(body).forward is nn.Sequential.forward
    layers = list(body) if isinstance(body, nn.Sequential) and plain else [body]
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return [] if any(getattr(m, name) for m in (body, *layers) for name in hooks) else layers


def accumulate(parameter: Tensor, gradient: Tensor) -> None:
    """Adds ``gradient``, which nobody else holds, to ``parameter.grad``."""
    if parameter.grad is None:
        parameter.grad = gradient
    else:
        parameter.grad.add_(gradient)
