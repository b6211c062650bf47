"""How many bytes a stage keeps between a micro-batch's forward pass and its learning."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

__all__ = ["HeldMeter"]


class HeldMeter:
    """Counts the storages that autograd saves while :meth:`watch` is active, each once, weights left out.

    Unit: bytes of one micro-batch. Watching costs time, so a stage watches one micro-batch and multiplies.
    """

    def __init__(self, parameters: Iterable[Tensor]) -> None:
        self._weights = {p.untyped_storage().data_ptr() for p in parameters}
        self._storages: dict[int, int] = {}

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Counts what is saved for backward inside its body."""
        with torch.autograd.graph.saved_tensors_hooks(self._pack, lambda tensor: tensor):
            yield

    def _pack(self, tensor: Tensor) -> Tensor:
        """Called by autograd with every tensor that it saves."""
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self._weights:
            self._storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    @property
    def num_bytes(self) -> int:
        """What was counted."""
        return sum(self._storages.values())
