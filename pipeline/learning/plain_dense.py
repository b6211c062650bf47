"""Block of one linear layer and its unit, run and differentiated by hand.

For rules that form the error of a block's output themselves and need no graph. A hard part of the unit is bypassed:
errors are those of its input.
"""

import torch
from torch import Tensor, nn

from pipeline.learning.activation import Smooth
from pipeline.learning.dense import accumulate
from pipeline.learning.rule import BlockSpec
from pipeline.learning.unit_split import check_vectors, split_at_unit
from pipeline.network.block import Block

__all__ = ["PlainDense", "learn_linear"]


class PlainDense:
    """The block ``a = x W^T + b``, ``z = f(a)``, which sends ``g(z)``.

    Args:
        block: its layers stand in ``nn.Sequential``; besides the linear layer and the unit there is at most an
            ``nn.Flatten`` in front.
        spec: its place.
        rule: name of the rule, for error messages.

    Raises:
        ValueError: ``block`` has another form.
    """

    def __init__(self, block: Block, spec: BlockSpec, rule: str) -> None:
        split = split_at_unit(block, rule)
        if any(not isinstance(layer, nn.Flatten) for layer in split.before):
            raise ValueError(
                f"{rule} takes a linear layer and a unit behind it (given: "
                f"{', '.join(type(m).__name__ for m in split.before)} in front of the layer, expected: nothing but "
                "nn.Flatten). Set model.boundary to post, or choose another rule."
            )
        check_vectors(spec, rule)
        # The parameters themselves: looking one up in its module costs as much as a small operation.
        self.weight, self.bias = split.affine.weight, split.affine.bias
        self.unit, self.f, self.g = split.f, Smooth.of(split.f), split.g

    @property
    def draws(self) -> bool:
        """True where running the block may draw random numbers."""
        return self.g is not None or not self.f.is_known

    def forward(self, x: Tensor, weight: Tensor | None = None, bias: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Run the layer and f.

        Args:
            x: block's input, (batch, ...).
            weight, bias: earlier versions of the layer's parameters; None for the present ones.

        Returns:
            a and z, each (batch, features), without a graph.
        """
        weight, bias = (self.weight, self.bias) if weight is None or bias is None else (weight, bias)
        with torch.no_grad():
            a = torch.addmm(bias, x.flatten(1), weight.t())
            return a, self.f.run(a)

    def sent(self, z: Tensor) -> Tensor:
        """The block's output g(z), or z where there is no g."""
        return z if self.g is None else self.g(z)

    def descend(self, x: Tensor, delta: Tensor) -> None:
        """Add the gradients of weight and bias.

        Args:
            x: input of :meth:`forward`, (batch, ...).
            delta: derivative of the loss by a, (batch, features).
        """
        learn_linear(self.weight, self.bias, x.flatten(1), delta)


def learn_linear(weight: Tensor, bias: Tensor, rows: Tensor, delta: Tensor) -> None:
    """Add a linear layer's gradients, ``delta^T rows`` and the sum of ``delta``'s rows, where they are required."""
    if weight.requires_grad:
        accumulate(weight, torch.mm(delta.t(), rows.to(delta.dtype)).to(weight.dtype))
    if bias.requires_grad:
        accumulate(bias, delta.sum(0).to(bias.dtype))
