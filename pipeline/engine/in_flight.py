"""Micro-batches in flight on a stage, between forward and learning: what is held, its size, and weight stashing."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, is_dataclass
from math import ceil
from typing import Any

import torch
from torch import Tensor

__all__ = ["Held", "InFlight", "Outbound", "SavedTensors"]


@dataclass(slots=True)
class Held:
    """Tensors and facts kept of one micro-batch until every hosted block has learned from it."""

    weight: float
    """Its share of the optimizer step's samples."""
    labels: Tensor
    contexts: dict[int, Any] = field(default_factory=dict)
    """By block, from the rules' ``forward``."""
    feedback: dict[int, tuple[Tensor, ...]] = field(default_factory=dict)
    """By block, where a block hosted here has given it before it was due."""
    versions: dict[int, int] = field(default_factory=dict)
    """By block: updates that its weights had seen when it ran forward."""

    @property
    def num_samples(self) -> int:
        """Of the micro-batch."""
        return len(self.labels)


@dataclass(slots=True)
class Outbound:
    """Feedback that leaves this stage: to the block below, or to every other stage."""

    tensors: tuple[Tensor, ...]
    to_all: bool


class InFlight:
    """The micro-batches that a stage has run forward and not yet learned from in all its blocks, by their key.

    Args:
        stash: blocks that wait for feedback are stepped while they wait, and need the weights of their forward pass.
    """

    def __init__(self, *, stash: bool) -> None:
        self._stash = stash
        self._held: dict[int, Held] = {}
        self._weights: Sequence[Tensor] | None = None
        self._stashed: Sequence[Tensor] | None = None
        self._saved: SavedTensors | None = None
        self._measured = -1
        self.most = 0
        """The most micro-batches held at once since :meth:`restart`."""
        self._bytes_before = 0

    def __len__(self) -> int:
        return len(self._held)

    def __getitem__(self, key: int) -> Held:
        return self._held[key]

    def get(self, key: int) -> Held | None:
        """The state kept of a micro-batch, or None."""
        return self._held.get(key)

    def oldest(self) -> int | None:
        """Key of the oldest micro-batch that is held, or None."""
        return min(self._held, default=None)

    def restart(self, weights: Sequence[Tensor] | None, stashed: Sequence[Tensor] | None) -> None:
        """Other blocks train from now on, and what they hold is measured anew.

        Args:
            weights: of the blocks that train; None where none does.
            stashed: those among them of blocks that wait for feedback; None where none waits.
        """
        self._bytes_before = self.max_bytes
        self._weights, self._stashed = weights, stashed if self._stash else None
        self._saved, self.most = None, 0

    def watcher(self, key: int) -> "SavedTensors | None":
        """The watcher of a micro-batch's forward pass, if it has one.

        The size of the first one is measured, for that costs time; where weights are stepped while blocks wait, those
        of every micro-batch are copied.
        """
        if self._weights is None:
            return None
        if self._saved is None:
            self._saved, self._measured = SavedTensors(self._weights, self._stashed or ()), key
        return self._saved if key == self._measured or self._stashed is not None else None

    def open(self, key: int, weight: float, labels: Tensor) -> Held:
        """The state of a micro-batch that runs forward, new at its first block."""
        held = self._held.get(key)
        if held is None:
            held = self._held[key] = Held(weight, labels)
        return held

    def ran_forward(self, key: int) -> None:
        """Some blocks have run forward: forgets the micro-batch if none of them trains, else counts it."""
        self.release(key)
        self.most = max(self.most, len(self._held))

    def release(self, key: int) -> None:
        """Forgets a micro-batch that every block has learned from."""
        if not self._held[key].contexts:
            del self._held[key]

    @property
    def max_bytes(self) -> int:
        """The most that was kept for backward at any time: one micro-batch, measured, times the most held at once."""
        now = self._saved.bytes_of(self.most) if self._saved is not None else 0
        return max(now, self._bytes_before)


class SavedTensors:
    """Watches what autograd saves for backward and what rules keep themselves.

    It counts the storages, each once, weights left out; unit: bytes of one micro-batch. A batch that is cut into
    micro-batches is one storage for all of its parts, as long as one of them is held: it is counted apart. And it
    copies weights that will have been stepped before the micro-batch is learned from: the gradient is then that of the
    weights that the forward pass used, late but of one version (weight stashing, Harlap et al. 2018). Without the copy
    it would be the gradient of nothing, and fused optimizers do not even raise autograd's error about it.

    Args:
        weights: not counted.
        stashed: those among them that are copied when saved.
    """

    def __init__(self, weights: Iterable[Tensor], stashed: Iterable[Tensor] = ()) -> None:
        self._weights = {w.untyped_storage().data_ptr() for w in weights}
        self._stashed = {w.untyped_storage().data_ptr() for w in stashed}
        self._storages: dict[int, int] = {}
        self._watched: set[tuple[int, tuple[tuple[int, int], ...]]] = set()
        """What was saved under each watch: bytes that are not shared, and of each storage that is, into how many parts
        it was cut, and its bytes."""

    @contextmanager
    def watch(self, *inputs: Tensor) -> Iterator[None]:
        """Counts and copies what is saved inside its body. Args: inputs, which may be parts of a batch."""
        self._storages.clear()
        with torch.autograd.graph.saved_tensors_hooks(self._pack, lambda tensor: tensor):
            yield
        shared = []
        for part in inputs:
            storage, batch = part.untyped_storage(), part._base  # what has come over an edge has none but itself
            if batch is not None and batch.nbytes > part.nbytes and self._storages.pop(storage.data_ptr(), 0):
                shared.append((ceil(batch.nbytes / part.nbytes), storage.nbytes()))  # the first parts are the longest
        self._watched.add((sum(self._storages.values()), tuple(shared)))

    @property
    def num_bytes(self) -> int:
        """The most that was saved under one :meth:`watch`, the storages left out that micro-batches share."""
        return max((own for own, _ in self._watched), default=0)

    def bytes_of(self, count: int) -> int:
        """Of so many micro-batches in a row, held at the same time."""
        found = (
            own * count + sum(ceil(count / parts) * whole for parts, whole in shared)
            for own, shared in self._watched
        )
        return max(found, default=0)

    def add(self, contexts: Iterable[Any]) -> None:
        """Counts the tensors that rules keep in their contexts, in tuples and dataclasses however deep; inside
        :meth:`watch`."""
        for item in contexts:
            if isinstance(item, Tensor):
                self._count(item)
            elif is_dataclass(item):
                self.add(getattr(item, f.name) for f in fields(item))
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
