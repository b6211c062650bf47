"""Columns of a weight that take parts of their own of an optimizer's step."""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

__all__ = ["Columns"]


@dataclass(frozen=True, slots=True)
class Columns:
    """A weight whose columns take parts of their own."""

    weight: Tensor
    parts: Tensor
    """To be broadcast over it."""
    whole: Tensor | None
    """Which parts are 1; None where no part is."""

    @classmethod
    def of(cls, weight: Tensor, parts: Tensor) -> Self:
        """Of parts of a weight, which are not looked at again."""
        whole = parts == 1.0
        return cls(weight, parts, whole if bool(whole.any()) else None)

    def scale(self, before: Tensor) -> None:
        """Takes back what is not taken of a step: ``before + parts (weight - before)``, and the optimizer's own bits
        where a part is 1. Args: before, the weight before the step."""
        if self.whole is None:
            self.weight.sub_(before).mul_(self.parts).add_(before)
            return
        scaled = torch.sub(self.weight, before).mul_(self.parts).add_(before)
        torch.where(self.whole, self.weight, scaled, out=self.weight)
