"""Right answers to training samples, counted over one epoch: of the output block, before it learns from each batch.

Counting takes five small operations, as many as a thin block's whole step. So outputs are kept until there are enough
of them, and counted in one go: a step then costs the two appends.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Answers", "Counted"]

_MOST_BATCHES = 64
_MOST_NUMBERS = 2**18
"""Outputs that wait to be counted: a megabyte of float32."""


class Counted(NamedTuple):
    """Counts at some moment."""

    right: Tensor
    """0-d int64."""
    seen: int


class Answers:
    """Counts for one block, kept on the device until the epoch ends.

    Args:
        num_correct: of scores and labels, 0-d; see :meth:`pipeline.learning.rule.LearningRule.num_correct`.
        device: where the scores are.
    """

    def __init__(self, num_correct: Callable[[Tensor, Tensor], Tensor], device: torch.device) -> None:
        self._num_correct = num_correct
        self._right = torch.zeros((), dtype=torch.int64, device=device)
        self._seen = self._numbers = 0
        self._scores: list[Tensor] = []
        self._labels: list[Tensor] = []

    def add(self, scores: Tensor, y: Tensor) -> None:
        """Notes a micro-batch's answers. Args: scores (batch, ...), never written to; y, labels (batch, ...)."""
        self._scores.append(scores.detach())
        self._labels.append(y)
        self._numbers += scores.numel()
        if len(self._scores) >= _MOST_BATCHES or self._numbers >= _MOST_NUMBERS:
            self._count()

    @torch.no_grad()
    def _count(self) -> None:
        """Counts those that wait."""
        if self._scores:
            scores, labels = torch.cat(self._scores), torch.cat(self._labels)
            self._right = self._right + self._num_correct(scores, labels)
            self._seen += len(scores)
            self._scores, self._labels, self._numbers = [], [], 0

    def counted(self) -> Counted:
        """All so far."""
        self._count()
        return Counted(self._right, self._seen)

    def add_counted(self, right: Tensor, seen: int) -> None:
        """Notes answers that another process has counted. Args: right, 0-d int64."""
        self._right = self._right + right
        self._seen += seen

    def take_back(self, before: Counted) -> Tensor | None:
        """Takes back what has come since ``before``: the number of right answers, 0-d; None where nothing came."""
        right, seen = self.counted()
        self.back_to(before)
        return right - before.right if seen > before.seen else None

    def back_to(self, before: Counted) -> None:
        """Forgets what has come since."""
        self._scores, self._labels, self._numbers = [], [], 0
        self._right, self._seen = before

    def share(self) -> float | None:
        """Of right answers; None where there were none at all. Reading it waits for the device."""
        right, seen = self.counted()
        return right.item() / seen if seen else None

    def capture(self) -> dict[str, Tensor]:
        """The counts, as a snapshot inside an epoch holds them; empty before the first."""
        right, seen = self.counted()
        return {"answers": torch.stack([right.cpu(), torch.tensor(seen)])} if seen else {}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Goes on from what :meth:`capture` returned, which an older snapshot lacks."""
        if "answers" in state:
            right, seen = state["answers"].tolist()
            self._right, self._seen = torch.full_like(self._right, right), seen
