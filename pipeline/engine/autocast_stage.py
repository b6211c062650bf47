"""A stage that computes in bfloat16. A class of its own, so that a stage in float32 does nothing for it."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from pipeline.engine.evaluation import Evaluation
from pipeline.engine.feeds import Tap
from pipeline.engine.in_flight import Outbound
from pipeline.engine.settling import Settling, Tensors
from pipeline.engine.stage import Stage
from pipeline.learning.rule import LearningRule
from pipeline.numerics.autocast import autocast

__all__ = ["AutocastStage"]


class _AutocastSettling(Settling):
    """See :class:`Settling`."""

    def __init__(self, rules: Mapping[int, LearningRule], contexts: Mapping[int, Any], device: torch.device) -> None:
        super().__init__(rules, contexts)
        self._device = device

    def round(self, index: int, below: Tensors, above: Tensors) -> tuple[Tensors, Tensors]:
        """See :class:`Settling`."""
        with autocast(self._device):
            return super().round(index, below, above)


class _AutocastEvaluation(Evaluation):
    """See :class:`Evaluation`."""

    def forward(self, x: Tensor, y: Tensor, index: int, tap: Tap | None = None) -> tuple[Tensor, dict[int, Any]]:
        """See :class:`Evaluation`."""
        with autocast(self.device):
            return super().forward(x, y, index, tap)

    def settling(self, contexts: Mapping[int, Any]) -> Settling:
        """See :class:`Evaluation`."""
        return _AutocastSettling(self._active, contexts, self.device)

    def score(self, contexts: Mapping[int, Any], y: Tensor, passes: int = 1) -> None:
        """See :class:`Evaluation`."""
        with autocast(self.device):
            super().score(contexts, y, passes)


class AutocastStage(Stage):
    """Runs, trains and evaluates its blocks under autocast; see :class:`Stage`.

    Its rules leave all derivatives to autograd, which alone knows what was rounded.
    """

    def forward(self, key: int, x: Tensor, y: Tensor, weight: float, group: range | None = None) -> Tensor:
        """See :class:`Stage`; (batch, ...), mostly in bfloat16."""
        with autocast(self.device):
            return super().forward(key, x, y, weight, group)

    def learn_at_once(self, key: int) -> list[Outbound]:
        """See :class:`Stage`."""
        with autocast(self.device):
            return super().learn_at_once(key)

    def learn(self, key: int, incoming: tuple[Tensor, ...]) -> list[Outbound]:
        """See :class:`Stage`."""
        with autocast(self.device):
            return super().learn(key, incoming)

    def _new_evaluation(self, seed: int) -> Evaluation:
        """See :class:`Stage`."""
        return _AutocastEvaluation(self.rules, seed, self.device, channels_last=self.channels_last)
