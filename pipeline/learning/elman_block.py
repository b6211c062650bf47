"""A block of one Elman layer, or of one linear layer at each position, for rules that make errors of their own."""

from dataclasses import dataclass
from functools import cached_property
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.learning.activation import Smooth, is_smooth_unit
from pipeline.learning.affine import layers_of
from pipeline.learning.dense import accumulate, check_plain
from pipeline.learning.saved_weights import Kept
from pipeline.network.block import Block
from pipeline.network.recurrent import LastStep, Recurrent
from pipeline.numerics.autocast import at_least_float32

__all__ = ["ElmanBlock", "Steps"]


@dataclass
class Steps:
    """A pass of such a block, without a graph but for ``inputs`` behind an embedding."""

    inputs: Tensor
    """x_t, (batch, *positions, features)."""
    h: Tensor
    """Pre-activations, (batch, *positions, units), float32 at least."""
    z: Tensor
    """f(h)."""
    before: Tensor | None
    """z_(t-1), (batch, length, units); None of a linear layer."""
    sent: Tensor
    """The activation as the block itself makes it: the one that is sent."""
    kept: Kept | None
    """The weights W and V of this pass, where they are needed again."""

    @cached_property
    def recurrent(self) -> Tensor:
        """V of this pass, of a recurrent layer whose weights are kept, (units, units) in the precision of ``h``."""
        assert self.kept is not None, "kept in training"
        return self.kept.tensors()[1].to(self.h.dtype)

    def drive(self, at: int | slice) -> Tensor:
        """``W x_t + b`` of steps of such a layer. Args: at, these steps. Returns: what is there of ``h``."""
        assert self.before is not None, "the layer is recurrent"
        return self.h[:, at] - self.before[:, at].to(self.h.dtype) @ self.recurrent.t()


class ElmanBlock:
    """``h_t = W x_t + V z_(t-1) + b``, ``z_t = f(h_t)``; of a linear layer the same without V.

    Activations are those of the block itself, an Elman layer of torch; pre-activations are computed from them at once,
    for all steps.

    Args:
        front: an embedding in front of the layer, of a linear one a flattening or the last step alone; None for none.
        layer: recurrent or linear.
        unit: f.
    """

    def __init__(self, front: nn.Module | None, layer: Recurrent | nn.Linear, unit: nn.Module) -> None:
        self.front, self.layer = front, layer
        self.f = Smooth.of(unit)
        self.learns_front = front is not None and any(p.requires_grad for p in front.parameters())
        self.weight: Tensor
        self.recurrent: Tensor | None
        self.biases: tuple[Tensor, ...]
        if isinstance(layer, Recurrent):
            self.weight, self.recurrent, self.biases = layer.weights()
        else:
            self.weight, self.recurrent = layer.weight, None
            self.biases = () if layer.bias is None else (layer.bias,)

    @classmethod
    def of(cls, block: Block, name: str, *, is_half: bool = False) -> Self:
        """The parts of ``block``.

        Args:
            block: of one layer.
            name: of the rule, for the error message.
            is_half: it is a recurrent one, and sends pre-activations.

        Raises:
            ValueError: the block has another form, or see :func:`pipeline.learning.dense.check_plain`.
        """
        layers = [layer for layer in layers_of(block) if not isinstance(layer, nn.Identity)]
        front = layers.pop(0) if layers and isinstance(layers[0], nn.Embedding | LastStep | nn.Flatten) else None
        if len(layers) == 1 and isinstance(layers[0], Recurrent) and layers[0].cell == "elman":
            if layers[0].is_half == is_half and (front is None or isinstance(front, nn.Embedding)):
                return cls(front, layers[0], layers[0].unit)
        elif not is_half and layers and isinstance(layers[0], nn.Linear) and len(layers) <= 2:
            unit = layers[1] if len(layers) == 2 else nn.Identity()
            if is_smooth_unit(unit) and not isinstance(front, nn.Embedding):
                check_plain(layers[0], block, name)
                return cls(front, layers[0], unit)
        found = ", ".join(type(m).__name__ for m in layers_of(block) if not isinstance(m, nn.Identity)) or "nothing"
        raise ValueError(
            f"{name} trains blocks of one Elman layer, or of one linear layer and a smooth unit (given: {found}; "
            "expected: an embedding or nothing, then such a layer). Set model.name to rnn, model.cell to elman and "
            f"model.boundary to {'half' if is_half else 'post'}, or model.norm to none and model.dropout to 0."
        )

    @property
    def is_recurrent(self) -> bool:
        """The layer is an Elman layer."""
        return self.recurrent is not None

    def forward(self, x: Tensor, *, keeps: bool) -> Steps:
        """Runs the block.

        Args:
            x: (batch, *in_shape).
            keeps: the weights are needed again.
        """
        inputs = x if self.front is None else self.front(x)
        matrices = (self.weight,) if self.recurrent is None else (self.weight, self.recurrent)
        kept = Kept(*matrices) if keeps or (self.learns_front and inputs.requires_grad) else None
        with torch.no_grad():
            if isinstance(self.layer, Recurrent):
                return self._recur(self.layer, inputs, kept)
            a = self._driven(inputs)
            sent, h = self.f.run(a), at_least_float32(a)
            return Steps(inputs, h, sent if h is a else self.f.run(h), None, sent, kept)

    def _recur(self, layer: Recurrent, inputs: Tensor, kept: Kept | None) -> Steps:
        """The pass of a recurrent layer."""
        start = layer.carried.before()
        sent = layer(inputs.detach())
        if layer.is_half:
            h = at_least_float32(sent)
            z = self.f.run(h)
            return Steps(inputs, h, z, _shifted(z, start), sent, kept)
        before = _shifted(sent, start)
        assert self.recurrent is not None, "of such a layer"
        h = at_least_float32(self._driven(inputs) + F.linear(before, self.recurrent))
        return Steps(inputs, h, self.f.run(h), before, sent, kept)

    def _driven(self, inputs: Tensor) -> Tensor:
        """``W x_t + b`` of all steps, (batch, *positions, units)."""
        return F.linear(inputs.detach(), self.weight, sum(self.biases[1:], self.biases[0]) if self.biases else None)

    def learn(self, steps: Steps, delta: Tensor, factor: float) -> None:
        """Adds ``factor`` times the gradients of all steps from errors at the pre-activations.

        Args:
            steps: of the pass.
            delta: (batch, *positions, units).
            factor: on all gradients.
        """
        if factor != 1.0:
            delta = delta * factor
        errors = delta.flatten(0, -2)
        for weight, rows in ((self.weight, steps.inputs.detach()), (self.recurrent, steps.before)):
            if weight is not None and rows is not None and weight.requires_grad:
                product = torch.mm(errors.t(), rows.flatten(0, -2).to(errors.dtype))
                accumulate(weight, product.to(weight.dtype))
        for bias in self.biases:
            if bias.requires_grad:
                accumulate(bias, errors.sum(0).to(bias.dtype))
        if self.learns_front:
            assert steps.kept is not None, "kept with an embedding"
            kept = steps.kept.tensors()[0]
            torch.autograd.backward(steps.inputs, (delta.to(kept.dtype) @ kept).to(steps.inputs.dtype))


def _shifted(z: Tensor, start: Tensor | None) -> Tensor:
    """``z_0 ... z_(T-1)``. Args: z, (batch, T, units); start, z_0, (batch, 1, units), None for zeros."""
    first = torch.zeros_like(z[:, :1]) if start is None else start.to(z.dtype)
    return torch.cat([first, z[:, :-1]], 1)
