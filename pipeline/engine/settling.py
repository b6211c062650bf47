"""One micro-batch's exchange between neighbouring blocks, as far as they are hosted by one stage.

Rounds are synchronous: in every round each block is shown what its neighbours emitted in the round before, so the
outcome does not depend on which blocks share a stage.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from pipeline.learning.rule import LearningRule

__all__ = ["Settling", "Tensors"]

Tensors = tuple[Tensor, ...]


class Settling:
    """The hosted blocks' side of the exchange.

    Args:
        rules: of the active hosted blocks, by block, contiguous.
        contexts: what each returned from ``forward``; rules change them in place.
    """

    def __init__(self, rules: Mapping[int, LearningRule], contexts: Mapping[int, Any]) -> None:
        self._rules = rules
        self._contexts = contexts
        self._up: dict[int, Tensors] = {}
        self._down: dict[int, Tensors] = {}

    @property
    def num_rounds(self) -> int:
        """The same for every block of a run; none in evaluation under a rule that settles for learning alone."""
        rule = next(iter(self._rules.values()))
        return rule.num_rounds if rule.training or rule.settles_in_evaluation else 0

    def round(self, index: int, below: Tensors, above: Tensors) -> tuple[Tensors, Tensors]:
        """One round of every hosted block.

        Args:
            index: of the round, from 0.
            below, above: what the neighbouring stages sent in the round before; empty in the first, and where there
                is no neighbour.

        Returns:
            What goes to the stage below, and what goes to the stage above.
        """
        first, last = min(self._rules), max(self._rules)
        up, down = {first - 1: below, **self._up}, {last + 1: above, **self._down}
        for k, rule in self._rules.items():
            self._up[k], self._down[k] = rule.settle(
                self._contexts[k], index, up.get(k - 1, ()), down.get(k + 1, ())
            )
        return self._down[first], self._up[last]
