"""Where a stage takes batches from: the data set, or the kept inputs of a block whose lower blocks are frozen."""

from collections.abc import Callable
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from pipeline.data.activation_cache import ActivationCache, Allocate
from pipeline.errors import DiskError
from pipeline.schedules.plan import Plan

__all__ = ["Feed", "Feeds", "Tap", "repeated"]

Tap = Callable[[int, Tensor, Tensor], None]
"""Shown the input and the labels of a block on their way in: ``tap(block, x, y)``."""


class Feed(Protocol):
    """A source of batches: the data set, or the kept inputs of a block."""

    num_samples: int
    num_batches: int

    def batch(self, epoch: int, index: int) -> tuple[Tensor, Tensor]:
        """Inputs (batch, ...) and labels (batch, ...)."""


class Feeds:
    """The feeds of one split of the data on one stage, by the block at whose input their batches enter.

    Args:
        data: the data set's split; None on stages that do not host block 0.
        num_samples: of the split.
        batch_size: samples of a full batch.
        seed: the run's, for the order of kept inputs; None keeps the order of the data set, as evaluation does.
        allocate: memory for kept inputs.
        device: where batches are wanted.
        dealt: which micro-batches of a batch are asked for here.
    """

    def __init__(
        self,
        data: Feed | None,
        num_samples: int,
        batch_size: int,
        seed: int | None,
        allocate: Allocate,
        device: torch.device,
        dealt: slice = slice(None),
    ) -> None:
        self._feeds: dict[int, Feed] = {} if data is None else {0: data}
        self._new_cache = partial(ActivationCache, num_samples, batch_size, seed, allocate, device)
        self.lost: str | None = None
        """Why inputs that were to be kept could not be, in this epoch."""
        self._dealt = dealt
        self._cut: dict[int, list[tuple[Tensor, Tensor, float]]] = {}

    def batch(self, source: int, epoch: int, index: int) -> tuple[Tensor, Tensor]:
        """Batch ``index`` of ``epoch`` at the input of block ``source``: (batch, ...) and labels (batch, ...)."""
        return self._feeds[source].batch(epoch, index)

    def microbatch(self, source: int, epoch: int, index: int, count: int) -> tuple[Tensor, Tensor, float]:
        """The next of a batch's ``count`` micro-batches, asked for in their order, and its share of the samples."""
        if count == 1:
            return *self.batch(source, epoch, index), 1.0
        if index not in self._cut:
            x, y = self.batch(source, epoch, index)
            parts = zip(x.tensor_split(count), y.tensor_split(count), strict=True)
            self._cut[index] = [(part, labels, len(labels) / len(y)) for part, labels in parts][self._dealt]
        parts_left = self._cut[index]
        taken = parts_left.pop(0)
        if not parts_left:
            del self._cut[index]
        return taken

    def keeper(self, plan: Plan, blocks: range, kept: int = 0) -> Tap | None:
        """A tap that keeps the inputs of the training block, where ``plan`` says so and ``blocks`` hold it.

        Where there is no room for them nothing is kept, and :attr:`lost` says so: no later epoch may start from them.

        Args:
            plan: of the epoch.
            blocks: of the stage.
            kept: samples of the epoch that an earlier tap has kept already.
        """
        self.lost = None
        block = plan.top
        if not plan.store or block not in blocks:
            return None
        found = self._feeds.get(block) if kept else None
        cache = found if isinstance(found, ActivationCache) else self._new_cache()
        self._feeds[block] = cache

        def keep(passing: int, x: Tensor, y: Tensor) -> None:
            nonlocal kept
            if passing != block or self.lost is not None:
                return
            try:
                cache.put(plan.epoch, kept, x, y)
                kept += len(y)
            except OSError as error:
                self.lost = error.strerror or str(error)
                del self._feeds[block]

        return keep

    def check_kept(self) -> None:
        """Raises DiskError where an epoch would start from kept inputs that are not there, or not whole."""
        if self.lost is not None:
            raise DiskError(
                f"outputs of frozen blocks cannot be kept ({self.lost}). Make room, or resume with schedule.cache=off."
            )

    def forget(self, plan: Plan) -> None:
        """Lets go of kept inputs that no epoch after ``plan``'s starts from."""
        for block in [b for b in self._feeds if 0 < b < plan.top]:
            del self._feeds[block]


def repeated(batch: Tensor, times: int) -> Tensor:
    """``batch`` below itself, ``times`` times in all."""
    return batch if times == 1 else torch.cat([batch] * times)
