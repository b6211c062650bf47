"""Lateness of updates: counted in the stage where they happen, not worked out from what a config promises."""

from collections.abc import Iterable, Sequence
from itertools import zip_longest
from typing import TypedDict

from pipeline.records.reports import StalenessRow

__all__ = ["Staleness", "StalenessState"]


class StalenessState(TypedDict):
    """Updates of one block by their lateness: in the epochs before this one, and in this one."""

    before: list[int]
    epoch: list[int]


class Staleness:
    """For every update of a block, the updates that its weights have seen since the forward pass it learns from.

    An update is one optimizer step of one block; 0 is not late at all.

    Args:
        blocks: that are trained.
    """

    def __init__(self, blocks: Iterable[int]) -> None:
        self.versions = dict.fromkeys(blocks, 0)
        """By block: updates that its weights have seen since the run's start."""
        self._learned: dict[int, int] = {}
        """By block whose gradient waits for a step: the oldest version of the weights that it was found with."""
        self._before: dict[int, list[int]] = {k: [] for k in self.versions}
        self._counts: dict[int, list[int]] = {k: [] for k in self.versions}

    def begin_epoch(self) -> None:
        """From here on :meth:`epoch` counts anew."""
        self._before = {k: _sum([self._before[k], self._counts[k]]) for k in self.versions}
        self._counts = {k: [] for k in self.versions}

    def learn(self, block: int, version: int) -> None:
        """``block`` has learned from a micro-batch that ran forward with weights of ``version``."""
        if version < self._learned.get(block, version + 1):
            self._learned[block] = version

    def forget(self, blocks: Iterable[int]) -> None:
        """What these blocks have learned since the last step is not applied."""
        for block in blocks:
            self._learned.pop(block, None)

    def step(self) -> None:
        """Applies what has been learned since the last step."""
        for block, version in self._learned.items():
            now, counts = self.versions[block], self._counts[block]
            while len(counts) <= now - version:
                counts.append(0)
            counts[now - version] += 1
            self.versions[block] = now + 1
        self._learned.clear()

    def epoch(self) -> StalenessRow:
        """``counts`` of this epoch's updates by how late they were, from 0 on, their ``mean`` and ``max``."""
        return _row(_sum(self._counts.values()))

    def run(self) -> StalenessRow:
        """As :meth:`epoch`, for all updates so far."""
        return _row(_sum([*self._before.values(), *self._counts.values()]))

    def capture(self, block: int) -> StalenessState:
        """What is known of one block."""
        return {"before": list(self._before[block]), "epoch": list(self._counts[block])}

    def restore(self, block: int, state: StalenessState) -> None:
        """Puts back what :meth:`capture` returned; each update of a block has been counted once."""
        self._before[block], self._counts[block] = list(state["before"]), list(state["epoch"])
        self.versions[block] = sum(state["before"]) + sum(state["epoch"])


def _sum(every: Iterable[Sequence[int]]) -> list[int]:
    """Element by element, shorter ones filled up with zeros."""
    return [sum(column) for column in zip_longest(*every, fillvalue=0)]


def _row(counts: Sequence[int]) -> StalenessRow:
    """The row of ``counts``; mean and max are None where nothing was updated."""
    total = sum(counts)
    return {
        "mean": sum(late * count for late, count in enumerate(counts)) / total if total else None,
        "max": len(counts) - 1 if total else None,
        "counts": list(counts),
    }
