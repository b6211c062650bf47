"""Windows of a stream of tokens: drawn anew in every step of training, at places that are a function of (seed, step).

An epoch draws as many windows as the data set says it has, wherever they lie: they overlap, and which part of the
stream an epoch misses is chance. Validation is on windows that lie side by side, an ordinary split.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pipeline.data.batches import Batches, upload
from pipeline.data.chunks import ChunkBatches
from pipeline.data.class_order import ClassLimit
from pipeline.data.dataset import Dataset, Split
from pipeline.data.mapped import MappedBatches, MappedSplit
from pipeline.numerics.seeds import derive, mix

__all__ = ["Stream", "Windows", "feed_of"]


@dataclass
class Stream(Split):
    """A stream, (length,), and the label of each of its positions, (length,)."""

    window: int
    """Positions of a window."""
    num_windows: int
    """Of an epoch."""

    @property
    def num_samples(self) -> int:
        """See :class:`Split`: each window is one."""
        return self.num_windows


class Windows(Batches):
    """Batches of windows of a stream.

    Args:
        split: a :class:`Stream`.
        options: see :class:`Batches`.
    """

    def __init__(self, split: Stream, **options: object) -> None:
        super().__init__(split, **options)  # type: ignore[arg-type]
        self._window = split.window
        self._length = len(split.y)
        self._offsets = torch.arange(split.window)

    def _starts(self, epoch: int, index: int, size: int) -> Tensor:
        """Where the windows of a batch begin, (batch,) int64 on the CPU; a function of the run's seed and the step."""
        generator = torch.Generator().manual_seed(mix(derive(self._seed, "windows", epoch), index))
        return torch.randint(self._length - self._window + 1, (size,), generator=generator)

    def batch(self, epoch: int, index: int) -> tuple[Tensor, Tensor]:
        """See :class:`Batches`."""
        if not 0 <= index < self.num_batches:
            raise self._no_batch(index)
        size = min(self._batch_size, self.num_samples - index * self._batch_size)
        places = self._starts(epoch, index, size).unsqueeze(1) + self._offsets
        x, y = self._x[places.to(self._x.device)], self._y[places.to(self._y.device)]
        if x.device != self._device:
            x = upload(x, self._device)
        return self._transform(x, epoch, index), y


def feed_of(
    split: Split, *, dataset: Dataset, batch_size: int, seed: int, device: torch.device | str, train: bool,
    classes: ClassLimit | None = None,
) -> Batches:  # fmt: skip
    """Batches of a split, of windows of it where it is a stream, or of chunks in order; see :class:`Batches`."""
    options: dict[str, Any] = {
        "dataset": dataset, "batch_size": batch_size, "seed": seed, "device": device, "train": train,
    }  # fmt: skip
    if isinstance(split, Stream):
        return Windows(split, **options)
    if dataset.spec.chunking is not None:
        return ChunkBatches(split, **options)
    options["classes"] = classes
    return MappedBatches(split, **options) if isinstance(split, MappedSplit) else Batches(split, **options)
