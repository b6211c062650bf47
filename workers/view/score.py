"""A block's score on the test or the validation set, by the metric that its task puts first."""

from collections.abc import Mapping
from typing import Any, Literal

from pipeline.records.number_text import percent

__all__ = ["Score", "loss_text"]


class Score:
    """The task's headline: ``accuracy`` in per cent, any other as the number that it is.

    Args:
        metric: its name in ``result.json``: accuracy, bits_per_byte, mse.
        split: what is scored, test or validation.
    """

    def __init__(self, metric: str, split: Literal["test", "validation"] = "test") -> None:
        self._metric, self._split = metric, split
        self.is_share = metric == "accuracy"
        self.name = f"{split} {metric.replace('_', ' ')}"
        self.unit = " %" if self.is_share else ""
        self.header = f"{split} %" if self.is_share else self.name

    def of(self, row: Mapping[str, Any]) -> float | None:
        """The score in a block's row, of a report or of ``result.json``; None where there is none."""
        metrics = row.get(f"{self._split}_metrics", {})
        found = row.get(f"{self._split}_accuracy") if self.is_share else metrics.get(self._metric)
        return None if found is None else float(found)

    def of_run(self, table: Mapping[str, Any]) -> float | None:
        """The network's, from ``result.json``."""
        found = table["test"].get(self._metric)
        return None if found is None else float(found)

    def text(self, value: float | None) -> str:
        """``98.33`` of a share, ``2.718`` of another number, ``-`` of None."""
        return percent(value) if self.is_share else loss_text(value)


def loss_text(loss: float | None) -> str:
    """A loss in four significant digits; ``-`` for None."""
    return "-" if loss is None else f"{loss:#.4g}"
