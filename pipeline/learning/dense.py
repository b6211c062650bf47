"""Linear map and elementwise nonlinearity, differentiated by hand.

Autograd costs a small block more than its arithmetic: building and walking the graph takes longer than the products
of a 128 x 128 layer. A block's own gradient needs no graph, since nothing is sent back to the block below: two
products forward and back, and one small operation for the nonlinearity. The operations are those that autograd calls,
in its order, so the bits are the same; the tests hold the two against each other.
"""

from collections.abc import Callable, Iterable
from typing import Self

import torch
from torch import Tensor, nn

from pipeline.network.block import Block

__all__ = ["Dense", "accumulate", "check_plain"]

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
"""The forward pass in place, and the derivative from its output, the only tensor that is kept."""


class Dense:
    """Closed form of a body of ``nn.Linear`` and at most one nonlinearity from the table above, its input flattened.

    Args:
        linear: the map, with a bias; its parameters are trained.
        activation: class of the nonlinearity; None for none.
    """

    def __init__(self, linear: nn.Linear, activation: type[nn.Module] | None) -> None:
        # The parameters themselves: looking one up in its module costs as much as a small operation.
        self._weight, self._bias = linear.weight, linear.bias
        run, derive = (None, None) if activation is None else _NONLINEARITIES[activation]
        self._run: Callable[[Tensor], Tensor] | None = run
        self._derive: Callable[[Tensor, Tensor], Tensor] | None = derive

    @classmethod
    def of(cls, block: Block, in_shape: tuple[int, ...]) -> Self | None:
        """The closed form of the block's body, or None where the body has another form or hooks.

        Args:
            block: block whose body is examined.
            in_shape: shape of one sample: a vector, or anything that the body flattens first.
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
        """Run the body. Args: x, (batch, ...). Returns: (batch, features), without a graph."""
        rows = x if x.dim() == 2 else x.flatten(1)
        a = torch.addmm(self._bias.detach(), rows, self._weight.detach().t())
        return a if self._run is None else self._run(a)

    def learn(self, x: Tensor, h: Tensor, dh: Tensor) -> Tensor:
        """Add the gradients of weight and bias.

        Args:
            x: input of :meth:`forward`, (batch, ...).
            h: output of :meth:`forward`, unchanged since, (batch, features).
            dh: derivative of the loss by ``h``, (batch, features).

        Returns:
            Derivative of the loss by the map's output, before the nonlinearity; (batch, features).
        """
        delta = dh if self._derive is None else self._derive(dh, h)
        accumulate(self._weight, torch.mm(delta.t(), x if x.dim() == 2 else x.flatten(1)))
        accumulate(self._bias, delta.sum(0))
        return delta


def _layers(body: nn.Module) -> list[nn.Module]:
    """The layers that ``body`` runs one after another; none where a hook has to be called on the way.

    A subclass of ``nn.Sequential`` with a ``forward`` of its own counts as one layer.
    """
    plain = type(body).forward is nn.Sequential.forward
    layers = list(body) if isinstance(body, nn.Sequential) and plain else [body]
    return [] if _have_hooks((body, *layers)) else layers


def _have_hooks(modules: Iterable[nn.Module]) -> bool:
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return any(getattr(m, name) for m in modules for name in hooks)


def check_plain(linear: nn.Linear, block: Block, rule: str) -> None:
    """Refuses a linear layer that may map by more than its weight and bias: by hand another function would be trained.

    Args:
        linear: a layer of the block.
        block: whose layers are not all called.
        rule: name of the rule, for the error message.

    Raises:
        ValueError: the layer is of a subclass, which parametrisations make too, or something of the block has hooks.
    """
    if type(linear) is nn.Linear and not _have_hooks(block.modules()):
        return
    given = "hooks in the block" if type(linear) is nn.Linear else type(linear).__name__
    raise ValueError(
        f"{rule} computes a linear layer by hand, from its weight and bias (given: {given}, expected: nn.Linear "
        "itself, without masks, parametrisations and hooks). Take them away, or choose another rule."
    )


def accumulate(parameter: Tensor, gradient: Tensor) -> None:
    """Add ``gradient`` to ``parameter.grad``, or make it that: the caller must not use the tensor again."""
    if parameter.grad is None:
        parameter.grad = gradient
    else:
        parameter.grad.add_(gradient)
