"""Tells recurrent layers which chunks they are about to run over, so that they carry their state to the next ones.

Which rows of a batch a micro-batch has, and whether its chunks begin their sequences, follows from its position, which
every message carries: nothing more travels, and each block keeps its own state, wherever it is hosted.
"""

from collections.abc import Iterable
from typing import Self

from pipeline.learning.rule import LearningRule
from pipeline.network.recurrent import Carried, carried_in
from pipeline.schedules.batching import Batching
from pipeline.schedules.position import Position

__all__ = ["ChunkNotes", "announce"]


class ChunkNotes:
    """Tells the recurrent layers of a stage's blocks.

    Args:
        carried: what they carry.
        batching: how the data is cut.
    """

    def __init__(self, carried: list[Carried], batching: Batching) -> None:
        self._carried, self._batching = carried, batching

    @classmethod
    def of(cls, rules: Iterable[LearningRule], batching: Batching) -> Self | None:
        """None where samples are independent, or no block has a recurrent layer."""
        if batching.chunking is None:
            return None
        carried = [state for rule in rules for _, state in carried_in(rule)]
        return cls(carried, batching) if carried else None

    def tell(self, position: Position) -> None:
        """The micro-batch at ``position`` is about to run forward, in training."""
        assert self._batching.chunking is not None, "asked by of()"
        index = position.step % self._batching.num_steps
        rows, num_rows = self._batching.rows_of(index, position.microbatch)
        is_start, is_end = self._batching.chunking.is_start(index), self._batching.chunking.is_end(index)
        for carried in self._carried:
            carried.announce(trains=True, rows=rows, num_rows=num_rows, is_start=is_start, is_end=is_end)


def announce(rules: Iterable[LearningRule], num_rows: int, *, is_start: bool) -> None:
    """A test batch of ``num_rows`` rows is about to run forward."""
    for rule in rules:
        for _, carried in carried_in(rule):
            carried.announce(trains=False, rows=slice(num_rows), num_rows=num_rows, is_start=is_start, is_end=False)
