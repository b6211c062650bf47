"""Samples that stay in files: memory-mapped, and asked for a few batches before they are wanted.

The system keeps in memory what there is room for, so data may be larger than memory. Batches are those of samples in
memory, to the bit: the same order, read from another place.
"""

import mmap
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pipeline.data.batches import Batches
from pipeline.data.dataset import Dataset, Split
from pipeline.errors import ConfigError, kind_and_text

__all__ = ["MappedArray", "MappedBatches", "MappedSplit"]

_AHEAD = 4
"""Batches that are asked for before they are wanted."""
_MOST_CHECKED = 1024
"""Samples that a checksum is taken of, evenly spaced: to read all at the end of a run could take longer than it."""


class MappedArray:
    """The array of a ``.npy`` file, read when it is looked at.

    Args:
        path: of the file, which must not change meanwhile.

    Raises:
        ConfigError: it is not there, is no such file, is cut short, or holds something else than rows of numbers.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            array = np.lib.format.open_memmap(path, "r")
            if not array.flags.c_contiguous or not array.dtype.isnative:
                raise ValueError("expected: an array in C order and the byte order of this machine")
            with path.open("rb") as file:
                self._pages = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except FileNotFoundError:
            raise ConfigError(f"there is no such array (expected: a file of numpy.save at {path}). Write it.") from None
        except Exception as error:  # readers of damaged files raise whatever they stumble over
            raise ConfigError(f"{path} is not a file of numpy.save ({kind_and_text(error)}). Write it anew.") from None
        if array.ndim == 0 or array.size == 0 or array.dtype.kind not in "fiu":
            raise ConfigError(
                f"{path} holds no samples (given: {array.dtype} of shape {array.shape}, expected: (samples, ...) of "
                "numbers, without a 0). Write it anew."
            )
        if array.dtype.kind == "f" and array.dtype.itemsize > 8:
            raise ConfigError(
                f"{path} has another dtype (given: {array.dtype}, expected: floating-point numbers of at most 64 "
                "bits). Convert it with astype."
            )
        self._can_ask = hasattr(self._pages, "madvise")
        if self._can_ask:  # else each sample would be read with its neighbours, which nobody wants
            self._pages.madvise(mmap.MADV_RANDOM)
        flat = np.frombuffer(self._pages, array.dtype, array.size, array.offset)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that it cannot be written to, which nobody does
            self.tensor = torch.from_numpy(flat.reshape(array.shape))
        self._offset, self._row_bytes = array.offset, array.nbytes // len(array)

    def ask_for(self, rows: Tensor) -> None:
        """Has the system read samples while this process goes on. Args: rows, indices, (n,) int64."""
        if not self._can_ask:
            return
        begins = rows.sort().values * self._row_bytes + self._offset
        first = begins // mmap.PAGESIZE
        after = (begins + self._row_bytes - 1) // mmap.PAGESIZE + 1
        apart = torch.cat([torch.ones(1, dtype=torch.bool), first[1:] > after[:-1]])
        starts, ends = first[apart], after[torch.cat([apart[1:], apart[:1]])]
        for start, end in zip((starts * mmap.PAGESIZE).tolist(), (ends * mmap.PAGESIZE).tolist(), strict=True):
            self._pages.madvise(mmap.MADV_WILLNEED, start, min(end, len(self._pages)) - start)


@dataclass
class MappedSplit(Split):
    """Samples in files."""

    source: MappedArray
    """Of ``x``."""
    rows: Tensor | None = None
    """See :class:`Split`."""

    @property
    def arrays(self) -> tuple[Tensor, ...]:
        """See :class:`Split`: of all labels, and of some samples, evenly spaced."""
        rows = torch.arange(len(self.y)) if self.rows is None else self.rows
        count = min(len(rows), _MOST_CHECKED)
        spaced = rows[torch.arange(count) * (len(rows) - 1) // max(count - 1, 1)]
        labels = self.y[rows] if self.y.dim() == 1 else self.y[spaced]
        return self.x[spaced], labels

    def take(self, rows: Tensor) -> "MappedSplit":
        """See :class:`Split`; nothing is read."""
        return MappedSplit(self.x, self.y, self.source, rows if self.rows is None else self.rows[rows])


class MappedBatches(Batches):
    """Batches of samples in files.

    Args:
        split: a :class:`MappedSplit`.
        options: see :class:`Batches`.
    """

    def __init__(self, split: MappedSplit, *, dataset: Dataset, **options: object) -> None:
        super().__init__(split, dataset=dataset, **options)  # type: ignore[arg-type]
        self._split, self._num_tokens = split, dataset.spec.num_tokens
        self._asked = 0, 0
        self._stays = self._x is split.x
        """The samples have not been copied to a GPU that has room for all."""

    @property
    def arrays(self) -> tuple[Tensor, ...]:
        """See :class:`Batches`."""
        return self._split.arrays

    def batch(self, epoch: int, index: int) -> tuple[Tensor, Tensor]:
        """See :class:`Batches`.

        Raises:
            ConfigError: a token is not one of those that there are; on a GPU it is the embedding that says so.
        """
        if self._stays:
            self._ask_ahead(epoch, index)
        x, y = super().batch(epoch, index)
        if self._num_tokens and x.device.type == "cpu":
            self._check_tokens(x, epoch, index)
        return x, y

    def _check_tokens(self, x: Tensor, epoch: int, index: int) -> None:
        """Refuses tokens that the embedding does not have: nobody has looked through all samples before."""
        low, high = (int(end) for end in x.aminmax())
        if 0 <= low and high < self._num_tokens:
            return
        place = ((x < 0) | (x >= self._num_tokens)).nonzero()[0].tolist()
        sample = int(self._chosen(epoch)[0][index][place[0]])
        raise ConfigError(
            f"there is no such token (given: {int(x[tuple(place)])} in sample {sample} of {self._split.source.path}, "
            f"expected: 0 to {self._num_tokens - 1}). Raise dataset.num_tokens, or correct the sample."
        )

    def _ask_ahead(self, epoch: int, index: int) -> None:
        """Asks for this batch and the next ones, each once."""
        asked, following = self._asked
        first = max(index, following) if asked == epoch and following <= index + _AHEAD + 1 else index
        after = min(index + _AHEAD + 1, self.num_batches)
        batches = self._chosen(epoch)[0]
        for place in range(first, after):
            self._split.source.ask_for(batches[place])
        self._asked = epoch, after
