"""Feedback matrices that share only the signs of the weights (Liao, Leibo and Poggio 2016).

The signs are those of the forward pass's weights, recorded in a byte each: a later step may have turned some of them,
and the feedback would then fit neither the old weights nor the new ones.
"""

from abc import abstractmethod
from math import sqrt
from typing import Literal

import torch
from torch import Tensor

from pipeline.learning.affine import Affine
from pipeline.learning.alignment import Alignment
from pipeline.learning.rule import BlockSpec
from pipeline.network.block import Block

__all__ = ["Scale", "SignSymmetry", "magnitude_scale"]

Scale = Literal["xavier", "fan_in"]


class SignSymmetry(Alignment):
    """Base of usf, brsf and frsf: :class:`Alignment` with ``B = M * sign(W)``, entry by entry; subclasses provide M.

    A weight of exactly 0 has no sign and sends nothing: from all-zero weights nothing below the last block learns
    at first.

    Args:
        block: has exactly one ``nn.Linear`` or ``nn.Conv2d``, directly in ``nn.Sequential``.
        name: name of the rule, for error messages.
        scale: s, ``xavier`` for ``sqrt(2 / (fan-in + fan-out))``, ``fan_in`` for ``1 / sqrt(fan-in)``.

    Raises:
        ValueError: ``block`` is not of that form.
    """

    def __init__(self, block: Block, spec: BlockSpec, name: str, scale: Scale) -> None:
        super().__init__(block, spec, name)
        self.scale = magnitude_scale(self.split.affine, scale)

    @abstractmethod
    def magnitudes(self) -> Tensor | float:
        """M, non-negative: of the weight's shape, or one number for all."""

    def note(self) -> Tensor:
        """See :class:`Alignment`: the signs, -1, 0 or 1, in int8."""
        return self.split.affine.weight.detach().sign().to(torch.int8)

    def feedback_matrix(self, noted: Tensor | None) -> Tensor:
        """See :class:`Alignment`."""
        assert noted is not None
        return noted.to(self.split.affine.weight.dtype) * self.magnitudes()

    def draw(self) -> Tensor:
        """Draw magnitudes: absolute values of entries uniform in +-scale*sqrt(3), their root mean square the scale."""
        weight = self.split.affine.weight
        return torch.empty_like(weight, requires_grad=False).uniform_(0.0, self.scale * sqrt(3.0))


def magnitude_scale(affine: Affine, scale: Scale) -> float:
    """Standard deviation that a usual initialisation gives a weight, whatever this one's initialisation was.

    Args:
        affine: a linear layer or a convolution.
        scale: ``xavier`` is ``sqrt(2 / (fan-in + fan-out))``, ``fan_in`` is ``1 / sqrt(fan-in)``; the fans of a
            convolution include the area of its kernel.
    """
    weight = affine.weight
    fan_in = weight[0].numel()
    fan_out = len(weight) * weight[0, 0].numel()
    return sqrt(2.0 / (fan_in + fan_out)) if scale == "xavier" else 1.0 / sqrt(fan_in)
