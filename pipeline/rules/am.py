"""Online alternating minimisation: codes from the top down, and each block regresses on its pair (Choromanska 2019)."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from pipeline.learning.codes import Alternating, CodeSearch
from pipeline.learning.codes_in_time import AlternatingInTime
from pipeline.learning.rule import BlockSpec, LearningRule
from pipeline.network.block import Block
from pipeline.network.recurrent import Recurrent

__all__ = ["AlternatingMinimisation", "build"]


class AlternatingMinimisation(Alternating):
    """AM-SGD and AM-Adam: one step of the run's optimizer on the mean over the batch of ``D(f(code), target)``.

    Both sides are new codes, see :class:`Alternating`; the last block descends on the output loss at its new input.
    Blocks that meet in front of their units (``model.boundary = "half"``) have pre-activations as codes, as in the
    source; behind them, activations.

    Source: Choromanska et al., "Beyond Backprop: Online Alternating Minimization with Auxiliary Variables" (2019),
    algorithm 1 with the sub-problems (4) and (5). Deviations: batch normalisation is frozen while a code is searched
    for, where the published code runs it anew, and counts it, in every step; and rates of codes are per sample.
    """

    def unsuited(self, optimizer: str, options: Mapping[str, Any]) -> str:
        """See :class:`LearningRule`: plain descent scales no gradient up."""
        return "" if self.spec.is_last else self.search.objection(optimizer, self.spec.num_blocks)

    def regress(
        self, code: Tensor, target: Tensor | None, y: Tensor, ran: tuple[tuple[Tensor, ...], Any], weight: float
    ) -> Tensor:
        """See :class:`Alternating`."""
        return self.descend(code, target, y, ran, weight)


def build(block: Block, spec: BlockSpec, *, search: CodeSearch = CodeSearch()) -> LearningRule:
    """Make the rule of one block; see :class:`AlternatingMinimisation`, and of an Elman layer that sends its
    pre-activations :class:`~pipeline.learning.codes_in_time.AlternatingInTime`."""
    if any(isinstance(part, Recurrent) and part.is_half for part in block.modules()):
        # In time there are as many layers as steps, which means would not get through.
        return AlternatingInTime(block, spec, search.of_sums())
    return AlternatingMinimisation(block, spec, "am", search)
