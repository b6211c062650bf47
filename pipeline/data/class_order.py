"""Orders of samples in which a batch has few classes, so that several of its samples are alike.

Similarity matching compares the samples of a batch by their labels. With 100 classes and batches of 128 hardly any two
are of one class, and there is little to match.
"""

from collections import deque
from dataclasses import dataclass
from heapq import heappop, heappush

import torch
from torch import Tensor

__all__ = ["ClassLimit", "limited_order"]

_LEAST = 10
"""Classes that a batch has at least, where it is to have more: a constant of the published code."""


@dataclass(frozen=True)
class ClassLimit:
    """How many classes a batch is drawn from."""

    num_drawn: int
    """Samples that choose the classes of a batch."""
    until_epoch: int = 0
    """The first epoch without it, counted from 0; 0: none."""

    def holds(self, epoch: int) -> bool:
        """True of an epoch whose batches are limited."""
        return self.until_epoch == 0 or epoch < self.until_epoch


def limited_order(order: Tensor, labels: Tensor, batch_size: int, num_drawn: int) -> Tensor:
    """Puts samples into an order in which batches have few classes.

    For each batch the next ``num_drawn`` samples of ``order`` are taken, and more until they are of so many classes or
    of ten, as far as there are as many; it is filled up with the next samples of these classes, and when there are none
    left with any.

    Args:
        order: indices, (samples,), int64.
        labels: of the data set, (samples,), int64.
        batch_size: samples of a batch.
        num_drawn: at most ``batch_size``.

    Returns:
        The same indices, (samples,), int64, a batch after the other.

    Source: the sampler of the published code of Nøkland and Eidnes (2019), which always asks for ten classes.
    """
    chosen, classes = order.tolist(), labels.index_select(0, order.to(labels.device)).tolist()
    places: dict[int, deque[int]] = {}
    for place, label in enumerate(classes):
        places.setdefault(label, deque()).append(place)
    least = min(num_drawn, _LEAST)
    found: list[int] = []
    used = bytearray(len(chosen))
    start = 0
    while len(found) < len(chosen):
        batch: list[int] = []
        of: set[int] = set()
        size = min(batch_size, len(chosen) - len(found))
        while len(batch) < size and (len(batch) < num_drawn or len(of) < least):
            start = _next(used, start)
            if start == len(chosen):
                break
            batch.append(start)
            of.add(classes[start])
            used[start] = 1
        batch += _of_classes(places, of, used, size - len(batch))
        while len(batch) < size:
            start = _next(used, start)
            batch.append(start)
            used[start] = 1
        found += [chosen[place] for place in batch]
    return torch.tensor(found, dtype=torch.int64)


def _next(used: bytearray, start: int) -> int:
    """The first place from ``start`` on that is not used; the end where there is none."""
    place = used.find(0, start)
    return len(used) if place < 0 else place


def _of_classes(places: dict[int, deque[int]], classes: set[int], used: bytearray, count: int) -> list[int]:
    """The next ``count`` places of some classes in their order, as far as there are as many; they are then used."""
    heap: list[tuple[int, int]] = []
    for label in classes:
        _push(heap, places[label], label, used)
    found: list[int] = []
    while heap and len(found) < count:
        place, label = heappop(heap)
        found.append(place)
        used[place] = 1
        _push(heap, places[label], label, used)
    return found


def _push(heap: list[tuple[int, int]], waiting: deque[int], label: int, used: bytearray) -> None:
    """Puts the next place of a class that is not used on the heap."""
    while waiting and used[waiting[0]]:
        waiting.popleft()
    if waiting:
        heappush(heap, (waiting[0], label))
