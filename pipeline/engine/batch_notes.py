"""Tells rules that ask which samples of the training set are in a micro-batch.

The place of every sample follows from the position of its micro-batch, which every message carries: batches of an epoch
are a function of the run's seed (:mod:`pipeline.data.batches`). So every stage finds it by itself, nothing more
travels, and a run whose rule does not ask does nothing.
"""

from typing import Self

import torch
from torch import Tensor

from pipeline.data.batches import epoch_order
from pipeline.engine.stage import Stage
from pipeline.learning.rule import BatchNote, LearningRule
from pipeline.numerics.seeds import derive, mix
from pipeline.schedules.batching import Batching
from pipeline.schedules.position import Position

__all__ = ["BatchNotes"]


class BatchNotes:
    """Writes the notes of a stage's rules.

    Args:
        stage: its blocks.
        batching: how the data is cut.
        seed: of the run.
    """

    def __init__(self, stage: Stage, batching: Batching, seed: int) -> None:
        self._rules: list[LearningRule] = [rule for rule in stage.rules.values() if rule.asks_for_note]
        self._device = stage.device
        self._batching = batching
        self._seed, self._batch_seed = seed, derive(seed, "batch")
        self._counts = batching.counts()
        self._order: tuple[int, tuple[Tensor, ...]] | None = None

    @classmethod
    def of(cls, stage: Stage, batching: Batching, seed: int) -> Self | None:
        """None where no rule asks."""
        return cls(stage, batching, seed) if any(rule.asks_for_note for rule in stage.rules.values()) else None

    def tell(self, position: Position) -> None:
        """The micro-batch at ``position`` is about to run forward, in training."""
        index = position.step % self._batching.num_steps
        batch = self._batches(position.epoch)[index]
        count = self._counts[index]
        samples = batch if count == 1 else batch.tensor_split(count)[position.microbatch]
        note = BatchNote(samples, mix(self._batch_seed, position.step))
        for rule in self._rules:
            rule.batch_note = note

    def _batches(self, epoch: int) -> tuple[Tensor, ...]:
        """Places of the samples of an epoch, batch by batch; those of the newest epoch are kept."""
        if self._order is None or self._order[0] != epoch:
            order = epoch_order(self._seed, epoch, self._batching.num_train)
            # A dry run may take more samples than the data set has.
            order %= self._rules[0].spec.num_train or len(order)
            self._order = epoch, torch.split(order.to(self._device), self._batching.batch_size)
        return self._order[1]
