"""Activation cache of the sequential mode: inputs of the block in training, once the blocks below it are frozen."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from pipeline.data.batches import epoch_order

__all__ = ["ActivationCache", "allocator"]

Allocate = Callable[[tuple[int, ...], torch.dtype], Tensor]


class ActivationCache:
    """Inputs of one block and their labels, for one split of the data, in the order of the data set.

    The rows of a batch are a function of (seed, epoch, index), so activations are stored and fetched without indices.

    Args:
        num_samples: samples of the split.
        batch_size: samples per batch.
        seed: seed of the run; None keeps the order of the data set, as evaluation does.
        allocate: see :func:`allocator`.
        device: device of the batches that are fetched.
    """

    def __init__(
        self, num_samples: int, batch_size: int, seed: int | None, allocate: Allocate, device: torch.device
    ) -> None:
        self.num_samples = num_samples
        self.batch_size = batch_size
        self.num_batches = -(-num_samples // batch_size)
        self._seed = seed
        self._allocate = allocate
        self._device = device
        self._x: Tensor | None = None
        self._y: Tensor | None = None
        self._order: tuple[int, Tensor] | None = None

    def put(self, epoch: int, start: int, x: Tensor, y: Tensor) -> None:
        """Store activations (batch, ...) and labels (batch, ...) of the samples from position ``start`` of ``epoch``.

        Raises:
            OSError: there is no room for them, which the first call finds out.
        """
        if self._x is None or self._y is None:
            self._x = self._allocate((self.num_samples, *x.shape[1:]), x.dtype)
            self._y = torch.empty(self.num_samples, *y.shape[1:], dtype=y.dtype)
        rows = self._rows(epoch, start, len(y))
        self._x[rows] = x.to(self._x.device)
        self._y[rows] = y.to(self._y.device)

    def batch(self, epoch: int, index: int) -> tuple[Tensor, Tensor]:
        """Fetch batch ``index`` of ``epoch``, with the samples that the data set gives it."""
        assert self._x is not None and self._y is not None, "an epoch that stores comes first"
        rows = self._rows(epoch, index * self.batch_size, self.batch_size)
        return self._x[rows].to(self._device), self._y[rows].to(self._device)

    def _rows(self, epoch: int, start: int, count: int) -> Tensor:
        """Positions in the data set of ``count`` samples from position ``start`` of ``epoch``."""
        if self._order is None or self._order[0] != epoch:
            order = torch.arange(self.num_samples)
            if self._seed is not None:
                order = epoch_order(self._seed, epoch, self.num_samples)
            self._order = (epoch, order)
        return self._order[1][start : start + count]


def allocator(where: Literal["auto", "memory", "file"], limit_bytes: int, folder: Path) -> Allocate:
    """Make the function that allocates a cache's memory: shape and dtype to a tensor.

    Args:
        where: auto is memory up to ``limit_bytes`` for one cache, then a file.
        limit_bytes: see ``where``.
        folder: folder of the file, which has no name there: it is gone when the process ends.

    Returns:
        The function; it raises OSError where there is no room.
    """

    def allocate(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        num_bytes = dtype.itemsize * torch.Size(shape).numel()
        if where == "memory" or (where == "auto" and num_bytes <= limit_bytes):
            return torch.empty(shape, dtype=dtype)
        with tempfile.NamedTemporaryFile(dir=folder) as file:
            _reserve(file.fileno(), num_bytes)
            # The mapping keeps the pages alive after the name is gone.
            flat = torch.from_file(file.name, shared=True, size=torch.Size(shape).numel(), dtype=dtype)
            return flat.reshape(shape)

    return allocate


def _reserve(descriptor: int, num_bytes: int) -> None:
    """Reserve disk space now: on a full disk, writing to the mapping of a sparse file kills the process."""
    if hasattr(os, "posix_fallocate") and num_bytes > 0:
        os.posix_fallocate(descriptor, 0, num_bytes)
    else:
        os.ftruncate(descriptor, num_bytes)
