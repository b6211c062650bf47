"""What a stage keeps between a micro-batch's forward pass and its learning: how much, and in which version."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

__all__ = ["Held", "SavedTensors"]


@dataclass(slots=True)
class Held:
    """What one micro-batch leaves behind until every hosted block has learned from it."""

    weight: float
    """Its share of the optimizer step's samples."""
    num_samples: int
    contexts: dict[int, Any] = field(default_factory=dict)
    """By block, from the rules' ``forward``."""
    feedback: dict[int, tuple[Tensor, ...]] = field(default_factory=dict)
    """By block, where a block hosted here has given it before it was due."""
    versions: dict[int, int] = field(default_factory=dict)
    """By block: updates that its weights had seen when it ran forward."""


class SavedTensors:
    """Watches what autograd saves for backward and what rules keep themselves.

    It counts the storages, each once, weights left out; unit: bytes of one micro-batch. And it copies weights that
    will have been stepped before the micro-batch is learned from: the gradient is then that of the weights that the
    forward pass used, late but of one version (weight stashing, Harlap et al. 2018). Without the copy it would be the
    gradient of nothing, and fused optimizers do not even raise autograd's error about it.

    Args:
        weights: not counted.
        stashed: those among them that are copied when saved.
    """

    def __init__(self, weights: Iterable[Tensor], stashed: Iterable[Tensor] = ()) -> None:
        self._weights = {w.untyped_storage().data_ptr() for w in weights}
        self._stashed = {w.untyped_storage().data_ptr() for w in stashed}
        self._storages: dict[int, int] = {}
        self.num_bytes = 0
        """The most that was saved under one :meth:`watch`."""

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Counts and copies what is saved inside its body."""
        self._storages.clear()
        with torch.autograd.graph.saved_tensors_hooks(self._pack, lambda tensor: tensor):
            yield
        self.num_bytes = max(self.num_bytes, sum(self._storages.values()))

    def add(self, contexts: Iterable[Any]) -> None:
        """Counts the tensors that rules keep in their contexts, in tuples however deep; inside :meth:`watch`."""
        for item in contexts:
            if isinstance(item, Tensor):
                self._count(item)
            elif isinstance(item, tuple | list):
                self.add(item)

    def _pack(self, tensor: Tensor) -> Tensor:
        """Called by autograd with every tensor that it saves."""
        if tensor.untyped_storage().data_ptr() in self._stashed:
            tensor = tensor.clone()
        elif tensor.untyped_storage().data_ptr() in self._weights:
            return tensor
        self._count(tensor)
        return tensor

    def _count(self, tensor: Tensor) -> None:
        """Notes a storage, once."""
        storage = tensor.untyped_storage()
        self._storages[storage.data_ptr()] = storage.nbytes()
