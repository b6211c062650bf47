"""Runs a block again, at another input, as it ran forward: with its weights, statistics and dropout masks of then.

A rule that searches for a better input of its block asks about one function. A second call of the block itself would be
another one: dropout would draw anew, batch normalisation would take other statistics and count them.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from pipeline.learning.affine import layers_of
from pipeline.network.block import Block
from pipeline.network.hard_units import NonDifferentiable
from pipeline.numerics.autocast import at_least_float32

__all__ = ["Repeatable"]

Kind = type[nn.Module] | tuple[type[nn.Module], ...]
_VARYING: Kind = (_BatchNorm, _DropoutNd)


class Repeatable:
    """A block's layers, one after another.

    A hard part of a unit (``pipeline/network/hard_units.py``) is run forward, and is the identity in the derivative.
    One that draws samples draws anew, unlike dropout.

    Args:
        block: its batch normalisation and dropout stand directly in ``nn.Sequential``.
        rule: name of the rule, for error messages.

    Raises:
        ValueError: one of them stands inside another module.
    """

    def __init__(self, block: Block, rule: str) -> None:
        self._layers = layers_of(block)
        self.trained = [p for layer in self._layers for p in layer.parameters() if p.requires_grad]
        self._last = max((k for k, layer in enumerate(self._layers) if [*layer.parameters()]), default=0)
        inside = [
            type(m).__name__ for layer in self._layers if not isinstance(layer, _VARYING)
            for m in layer.modules() if isinstance(m, _VARYING)
        ]  # fmt: skip
        if inside:
            raise ValueError(
                f"{rule} cannot run this block again as it ran before (given: {inside[0]} inside another module, "
                "expected: directly in nn.Sequential). Move it there, or take it out."
            )

    def forward(self, x: Tensor) -> tuple[Tensor, list[Any]]:
        """Run the block in training mode, without a graph.

        Returns:
            Its output, and what :meth:`again` needs of each layer: a mask, a mean and a variance, or None.
        """
        constants: list[Any] = []
        with torch.no_grad():
            for layer in self._layers:
                found: Any = None
                if isinstance(layer, _DropoutNd):
                    found = layer(torch.ones_like(x))
                    x = x * found
                else:
                    if isinstance(layer, _BatchNorm):
                        over = [0, *range(2, x.dim())]
                        exact = at_least_float32(x)
                        found = exact.mean(over), exact.var(over, correction=0)
                    x = layer(x)
                constants.append(found)
        return x, constants

    def again(
        self, x: Tensor, weights: Sequence[Tensor], constants: Sequence[Any], *, statistics: bool = False,
        up_to_last: bool = False,
    ) -> Tensor:  # fmt: skip
        """Run the block at another input.

        Args:
            x: (batch, ...), with or without a graph.
            weights: in place of :attr:`trained`, in its order.
            constants: from :meth:`forward`.
            statistics: batch normalisation takes those of x, and counts them nowhere; else they are constants.
            up_to_last: stop in front of the last layer that has parameters.
        """
        given = iter(weights)
        layers = self._layers[: self._last] if up_to_last else self._layers
        for layer, constant in zip(layers, constants, strict=not up_to_last):
            own = {name: next(given) if p.requires_grad else p for name, p in layer.named_parameters()}
            if isinstance(layer, _DropoutNd):
                x = x * constant
            elif isinstance(layer, _BatchNorm):
                mean, variance = (None, None) if statistics else constant
                weight, bias = own.get("weight"), own.get("bias")
                x = F.batch_norm(x, mean, variance, weight, bias, training=statistics, momentum=0.0, eps=layer.eps)
            else:
                x = _run(layer, x, own)
        return x


def _run(layer: nn.Module, x: Tensor, own: dict[str, Tensor]) -> Tensor:
    """One layer with other parameters."""
    if type(layer) is nn.Linear:
        return F.linear(x, own["weight"], own.get("bias"))
    hard = isinstance(layer, NonDifferentiable)
    out: Tensor = functional_call(layer, own, (x,)) if own else layer(x.detach() if hard else x)
    return out + (x - x.detach()) if hard else out  # exactly the unit's values: the difference is 0
