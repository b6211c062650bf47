"""What a replica tells another one of a micro-batch, as tensors of a message, and the length of the longest message."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.learning.exchanged import Exchanged
from pipeline.numerics.packed import packed_bytes

__all__ = ["Share", "longest_message"]

_SHAPES = torch.device("meta")
"""Of tensors without memory."""


@dataclass(slots=True)
class Share:
    """What some blocks learned from one micro-batch, as far as one replica is to know."""

    chunks: list[Tensor]
    """Of each gradient vector, the receiver's."""
    present: list[list[bool]]
    """See :meth:`pipeline.engine.gradients.GradientVector.take`."""
    losses: list[Tensor | None]
    """Of each block, 0-d."""
    credits: list[Tensor | None]
    answers: Tensor | None
    """Right ones of the output block, 0-d; None where it is not among these blocks."""

    def tensors(self, device: torch.device) -> tuple[Tensor, ...]:
        """As a message carries them: chunks, losses and answers; credits and absent gradients only where there are
        any."""
        nothing = torch.empty(0, device=device)
        scalars = [*self.losses, self.answers]
        packed = [*self.chunks, *(nothing if scalar is None else scalar for scalar in scalars)]
        is_whole = all(all(some) for some in self.present)
        if not is_whole or any(credit is not None for credit in self.credits):
            packed += [nothing if credit is None else credit for credit in self.credits]
        if not is_whole:
            packed += [torch.tensor(some, dtype=torch.uint8, device=device) for some in self.present]
        return tuple(packed)

    @classmethod
    def of(cls, tensors: Sequence[Tensor], num_parameters: Sequence[int], num_blocks: int) -> "Share":
        """What :meth:`tensors` has packed. Args: num_parameters, of each gradient vector."""
        chunks, rest = list(tensors[: len(num_parameters)]), tensors[len(num_parameters) :]
        found = [None if t.dim() else t for t in rest[: 2 * num_blocks + 1]]
        losses, answers = found[:num_blocks], found[num_blocks]
        credits = found[num_blocks + 1 :] or [None] * num_blocks
        masks = rest[2 * num_blocks + 1 :]
        present = [list(map(bool, m.tolist())) for m in masks] or [[True] * n for n in num_parameters]
        return cls(chunks, present, losses, credits, answers)

    @classmethod
    def longest(cls, blocks: Sequence[Exchanged], replicas: int) -> "Share":
        """The one of the most bytes that there can be of ``blocks``, in shapes alone: credits and absent gradients are
        there, and chunks are the largest ones."""
        vectors = [vector for block in blocks for vector in block.gradients]
        chunks = [_shape(vector.dtype, -(-vector.num_values // replicas)) for vector in vectors]
        scalars = [torch.empty((), dtype=torch.float64, device=_SHAPES) for _ in blocks]
        absent = [[False] * vector.num_parameters for vector in vectors]
        return cls(chunks, absent, [*scalars], [*scalars], scalars[-1] if scalars else None)


def longest_message(blocks: Sequence[Exchanged], replicas: int) -> int:
    """Bytes of the longest message about ``blocks`` as transports lay its tensors out: of a micro-batch's gradients, of
    sums, which are as the former without all that travels along, or of running statistics.

    Args:
        blocks: that travel together.
        replicas: of their stage.
    """
    statistics = [_shape(dtype, num_values) for block in blocks for dtype, num_values in block.statistics]
    return max(packed_bytes(Share.longest(blocks, replicas).tensors(_SHAPES)), packed_bytes(statistics))


def _shape(dtype: torch.dtype, num_values: int) -> Tensor:
    """A vector without memory."""
    return torch.empty(num_values, dtype=dtype, device=_SHAPES)
