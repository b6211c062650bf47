"""Local representation alignment with feedback: a fixed random matrix gives each block its target."""

from typing import Any, Literal

import torch
from torch import Tensor

from pipeline.learning.discrepancy import bounded, discrepancy
from pipeline.learning.lra import LocalRepresentation, Settings
from pipeline.learning.lra_subgraph import LraSubgraph
from pipeline.learning.rule import BlockSpec, LearningRule
from pipeline.network.block import Block
from pipeline.numerics.autocast import at_least_float32
from pipeline.ranges import NonNegative

__all__ = ["LraFeedback", "build"]


class LraFeedback(LocalRepresentation):
    """LRA-fdbk: ``t = f(a - beta D)``, ``e = l'(f(a) - t) f'(a)``, ``G_W = e^T x``, and ``D_below = e E^T``.

    D is the feedback, each row clipped to the norm ``displacement_clip``; a target is always a value that the unit can
    take. E is drawn from N(0, error_std^2) and never trained. A hard part g of the unit is run forward and bypassed in
    the backward pass: targets and errors are those of f, the input of g. The last block's e is that of the output
    loss.

    Source: Ororbia, Mali, Kifer and Giles, "Conducting Credit Assignment by Aligning Local Representations" (2018),
    LRA-fdbk. beta, the bounds, the reduction over the batch and the threshold are not in print.

    Args:
        block: a flattening or nothing, one ``nn.Linear`` and a unit.
        settings: options, see :class:`Settings`.
        error_std: standard deviation of E, at least 0.

    Raises:
        ValueError: ``block`` is not of that form, or a number is out of range.
    """

    matrix: Tensor
    """The transpose of E, of the weight's shape."""

    def __init__(self, block: Block, spec: BlockSpec, settings: Settings, error_std: float) -> None:
        super().__init__(block, spec, settings, "lra_fdbk")
        if self.begins_with_unit:
            raise ValueError(
                "lra_fdbk trains blocks that end with their unit (given: one that begins with the unit below, "
                "expected: model.boundary = 'post'). Change it, or use lra_diff."
            )
        if not error_std >= 0:
            raise ValueError(
                f"a standard deviation cannot be negative (given: rule.error_std = {error_std}, expected: 0 or above). "
                "Change it."
            )
        if not spec.is_first:
            weight = self.affine[0]
            self.register_buffer("matrix", torch.empty_like(weight, requires_grad=False).normal_(0.0, error_std))

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Any]:
        """See :class:`LearningRule`. The context is ``(x, a, y, f(a))``, x flattened."""
        rows = self.rows(x)
        sent_as = self.pre_activation(rows, *self.affine)
        a = at_least_float32(sent_as)
        z = self.f.run(a)
        return self.split.hard(z).to(sent_as.dtype), (rows, a, y, z)

    def compare(self, context: Any, target: Tensor) -> tuple[Tensor, Tensor]:
        """See :class:`LocalRepresentation`; ``target`` is D."""
        _, a, _, z = context
        settings = self.settings
        moved = torch.sub(a, bounded(target, settings.displacement_clip, rows=True), alpha=settings.beta)
        losses, d = discrepancy(settings.loss, z - self.f.run(moved))
        return losses, self.f.derive(d, a, z)

    def message(self, context: Any, e: Tensor, losses: Tensor, target: Tensor | None) -> Tensor:
        """See :class:`LocalRepresentation`: ``e E^T``."""
        return e @ self.matrix


def build(
    block: Block, spec: BlockSpec, *, settings: Settings = Settings(), error_std: NonNegative = 1.0,
    subgraph: Literal["unit", "block"] = "unit",
) -> LearningRule:  # fmt: skip
    """Make the rule of one block.

    Args:
        settings: see :class:`Settings`.
        error_std: standard deviation of E.
        subgraph: ``unit`` is :class:`LraFeedback`, of one linear layer and its unit; ``block``
            :class:`~pipeline.learning.lra_subgraph.LraSubgraph`, of whatever autograd differentiates.
    """
    if subgraph == "block":
        return LraSubgraph(block, spec, settings, error_std)
    return LraFeedback(block, spec, settings, error_std)
