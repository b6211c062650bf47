"""Columns of a weight that take parts of their own of an optimizer's step."""

from dataclasses import dataclass
from typing import Self

from torch import Tensor

__all__ = ["Columns"]


@dataclass(frozen=True, slots=True)
class Columns:
    """A weight whose columns take parts of their own."""

    weight: Tensor
    parts: Tensor
    """To be broadcast over it."""
    whole: Tensor | None
    """Places of the columns whose parts are 1; None where there are none."""

    @classmethod
    def of(cls, weight: Tensor, parts: Tensor) -> Self:
        """Of parts of a weight, which are not looked at again."""
        whole = (parts.flatten() == 1.0).nonzero().flatten()
        return cls(weight, parts, whole if len(whole) > 0 else None)

    def scale(self, before: Tensor) -> None:
        """Takes back what is not taken of a step: ``before + parts (weight - before)``, and the optimizer's own bits
        where a part is 1. Args: before, the weight before the step."""
        own = self.weight.index_select(1, self.whole) if self.whole is not None else None
        self.weight.sub_(before).mul_(self.parts).add_(before)
        if self.whole is not None and own is not None:
            self.weight.index_copy_(1, self.whole, own)
