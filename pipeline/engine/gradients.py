"""Gradients of a block as one vector, cut into a chunk for each replica of the block's stage.

Replica c owns chunk c: it adds what the micro-batches bring, in their order, as ``.grad`` would have in one process,
so the sum has the bits of that process.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from pipeline.learning.exchanged import by_dtype

__all__ = ["GradientVector", "vectors_of"]


class GradientVector:
    """The gradients of parameters of one dtype.

    Args:
        parameters: of one dtype, on one device.
        num_chunks: replicas.
        own: the chunk that is summed here.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], num_chunks: int, own: int) -> None:
        self._parameters = parameters
        self._ends = [0]
        for parameter in parameters:
            self._ends.append(self._ends[-1] + parameter.numel())
        size = self._ends[-1]
        self._cuts = [size * c // num_chunks for c in range(num_chunks + 1)]
        self._own = own
        self._sum: Tensor | None = None
        self._present = [False] * len(parameters)

    @property
    def num_parameters(self) -> int:
        """Parameters whose gradients these are."""
        return len(self._parameters)

    @property
    def num_bytes(self) -> int:
        """Of the vector."""
        return self._ends[-1] * self._parameters[0].element_size()

    @torch.no_grad()
    def take(self) -> tuple[list[Tensor], list[bool]]:
        """Takes the gradients away from the parameters.

        Returns:
            A chunk for each replica, views of one vector; and for each parameter whether it had a gradient. The chunks
            are 0 where it had none.
        """
        gradients = [p.grad for p in self._parameters]
        present = [g is not None for g in gradients]
        make = torch.empty if all(present) else torch.zeros
        first = self._parameters[0]
        vector = make(self._ends[-1], dtype=first.dtype, device=first.device)
        pairs = [(v, g) for v, g in zip(self._views(vector), gradients, strict=True) if g is not None]
        if pairs:
            torch._foreach_copy_([v for v, _ in pairs], [g for _, g in pairs])
        for parameter in self._parameters:
            parameter.grad = None
        return [vector[a:b] for a, b in pairwise(self._cuts)], present

    @torch.no_grad()
    def add(self, chunk: Tensor, present: Sequence[bool]) -> None:
        """Adds a micro-batch's part of the own chunk, whose memory is given up to this object.

        A gradient that is not there is not a gradient of 0: the optimizer passes over a parameter that has none, and
        -0 + 0 is not -0.
        """
        if self._sum is None:
            self._sum = chunk
        elif all(present) and all(self._present):
            self._sum.add_(chunk)
        else:
            for index, (start, stop) in enumerate(self._own_parts()):
                if present[index] and self._present[index]:
                    self._sum[start:stop].add_(chunk[start:stop])
                elif present[index]:
                    self._sum[start:stop].copy_(chunk[start:stop])
        self._present = [a or b for a, b in zip(self._present, present, strict=True)]

    def own_sum(self) -> Tensor:
        """The sum in the own chunk, of all that was added since the last :meth:`put`."""
        assert self._sum is not None, "a step has a micro-batch at least"
        return self._sum

    @torch.no_grad()
    def put(self, chunks: Sequence[Tensor]) -> None:
        """Makes the sums the gradients. Args: chunks, of all replicas, in order."""
        views = self._views(torch.cat(list(chunks)))
        for parameter, view, present in zip(self._parameters, views, self._present, strict=True):
            parameter.grad = view if present else None
        self._sum, self._present = None, [False] * len(self._parameters)

    def _views(self, vector: Tensor) -> list[Tensor]:
        """Each parameter's part of ``vector``, in the parameter's own layout, on which fused optimizers rely."""
        return [
            vector.as_strided(p.shape, p.stride(), start)
            for p, start in zip(self._parameters, self._ends, strict=False)
        ]

    def _own_parts(self) -> Iterator[tuple[int, int]]:
        """Each parameter's part of the own chunk, which may be empty."""
        low, high = self._cuts[self._own], self._cuts[self._own + 1]
        for start, stop in pairwise(self._ends):
            yield max(start, low) - low, max(min(stop, high) - low, max(start, low) - low)


def vectors_of(parameters: Sequence[nn.Parameter], num_chunks: int, own: int) -> list[GradientVector]:
    """A vector for each dtype among ``parameters``, in the order of their first ones."""
    return [GradientVector(some, num_chunks, own) for some in by_dtype(parameters).values()]
