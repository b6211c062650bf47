"""A stage's blocks in evaluation: test batches forward, settled where the rule settles, and scored at each block."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from pipeline.data.chunking import Chunking
from pipeline.data.task import Labels
from pipeline.engine.chunk_notes import announce
from pipeline.engine.feeds import Tap
from pipeline.engine.scores import Scores
from pipeline.engine.settling import Settling
from pipeline.learning.rule import LearningRule
from pipeline.numerics.memory_format import laid_out
from pipeline.numerics.seeds import derive, mix, reseed

__all__ = ["Evaluation"]


class Evaluation:
    """Runs test batches through the active blocks of a stage.

    Args:
        rules: of the hosted blocks, by block.
        seed: the run's.
        device: where the rules live.
        channels_last: maps lie channels last in memory.
    """

    def __init__(
        self, rules: Mapping[int, LearningRule], seed: int, device: torch.device, *, channels_last: bool
    ) -> None:
        self.scores: dict[int, Scores] = {}
        """Of this epoch, by active block; training losses are in them, too."""
        self.kept: dict[int, dict[int, dict[str, Tensor]]] = {}
        """States after epochs that may still be chosen, by epoch and block; see :mod:`pipeline.engine.kept`."""
        self.chunking: Chunking | None = None
        """Set where test batches are those of the data set in their order, and follow each other."""
        self.device = device
        self._rules = rules
        self._active: dict[int, LearningRule] = {}
        self._seeds = {k: derive(seed, "eval", k) for k in rules}
        self._channels_last = channels_last
        self._answering = next((k for k, rule in rules.items() if _tells_classes(rule)), None)

    def begin_epoch(self, active: range) -> None:
        """Starts new scores for the blocks that this epoch's batches pass through."""
        self._active = {k: self._rules[k] for k in active}
        self.scores = {k: Scores(rule, self.device) for k, rule in self._active.items()}

    @torch.no_grad()
    def forward(self, x: Tensor, y: Tensor, index: int, tap: Tap | None = None) -> tuple[Tensor, dict[int, Any]]:
        """Runs a test batch forward.

        Args:
            x: (batch, ...).
            y: labels, (batch, *task.label_shape).
            index: of the batch: a block that draws samples draws the same for it in every evaluation.
            tap: shown the input of every block.

        Returns:
            The activation to send on, and contexts to be scored.
        """
        contexts: dict[int, Any] = {}
        if self.chunking is not None:
            announce(self._active.values(), len(x), is_start=self.chunking.is_start(index))
        for k, rule in self._active.items():
            if tap is not None:
                tap(k, x, y)
            self.seed(k, index)
            x, contexts[k] = rule(laid_out(x, maps_last=self._channels_last), y)
        return x, contexts

    def seed(self, block: int, index: int) -> None:
        """Seeds what a block is about to draw for a test batch, if it may draw."""
        if self._rules[block].draws:
            reseed(mix(self._seeds[block], index), self.device)

    def settling(self, contexts: Mapping[int, Any]) -> Settling:
        """The exchange about a batch, in training or in evaluation; there to be walked through under ``no_grad``."""
        return Settling(self._active, contexts)

    def note_answers(self, block: int, context: Any, y: Tensor) -> None:
        """Scores a training micro-batch at the output block, before it learns from it; no other block is scored.

        Args:
            block: about to learn.
            context: of its forward pass, settled where the rule settles.
            y: labels, (batch, *task.label_shape).
        """
        if block == self._answering and (scores := self._rules[block].decode(context)) is not None:
            self.scores[block].answers.add(scores, y)

    @torch.no_grad()
    def score(self, contexts: Mapping[int, Any], y: Tensor, passes: int = 1) -> None:
        """Scores a test batch at every block that has a decoder; see :class:`Scores` for several passes."""
        for k, context in contexts.items():
            self.scores[k].add_test(self._rules[k].decode(context), y, passes)


def _tells_classes(rule: LearningRule) -> bool:
    """It is the output block's; numbers are neither right nor wrong."""
    return rule.spec.is_last and rule.spec.task.labels is not Labels.NUMBERS
