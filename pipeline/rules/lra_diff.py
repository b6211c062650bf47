"""Local representation alignment by derivatives: each block improves its input, the target of the one below."""

from typing import Annotated, Any

import torch
from torch import Tensor, nn

from pipeline.learning.activation import Smooth
from pipeline.learning.affine import run
from pipeline.learning.discrepancy import bounded, discrepancy
from pipeline.learning.lra import LocalRepresentation, Settings
from pipeline.learning.rule import BlockSpec, LearningRule
from pipeline.learning.saved_weights import Kept
from pipeline.learning.unit_split import parts_of_unit
from pipeline.network.block import Block
from pipeline.numerics.autocast import at_least_float32
from pipeline.ranges import Range

__all__ = ["LraDerivative", "build"]


class LraDerivative(LocalRepresentation):
    """LRA-diff: ``e = l'(f(a) - t) f'(a)``, ``G_W = e^T z``, and gradient steps on the block's input u.

    ``steps`` times ``u <- u - beta D`` with ``D = (e W) f'(u)`` at the present u, then ``t_below = f(u)``.

    A block begins with the unit below: its input is u, the pre-activation below, and it holds all layers from there to
    its target, so all steps are its own. Each row of D is clipped to the norm ``displacement_clip``, and a sample takes
    no further step after one that has not lowered its loss. The weights are those of the forward pass. A hard part g
    of the unit is run forward and bypassed in the backward pass.

    Source: Ororbia, Mali, Kifer and Giles, "Conducting Credit Assignment by Aligning Local Representations" (2018),
    algorithm 1, LRA-diff. In print D is formed from the unmoved u in every step, which makes K steps out of one; here
    it follows u, as the text says. beta, the bounds and the reduction are not in print.

    Args:
        block: the unit below (a flattening or nothing in the first), one ``nn.Linear``; it knows the unit ahead.
        settings: options, see :class:`Settings`.
        steps: K, the number of times that the target for the block below is moved, at least 1.

    Raises:
        ValueError: ``block`` is not of that form, or a number is out of range.
    """

    def __init__(self, block: Block, spec: BlockSpec, settings: Settings, steps: int) -> None:
        super().__init__(block, spec, settings, "lra_diff")
        if steps < 1:
            raise ValueError(f"too few steps (given: rule.steps = {steps}, expected: 1 or more). Raise it.")
        if self.ends_with_unit or (block.ahead is None and not spec.is_last):
            given = "one that ends with a unit" if self.ends_with_unit else "a hidden block that knows no unit ahead"
            raise ValueError(
                f"lra_diff trains blocks that begin with the unit below and know the one ahead (given: {given}, "
                "expected: model.boundary = 'half'). Change it, or use lra_fdbk."
            )
        self.steps = steps
        if block.ahead is not None:
            ahead = tuple(block.ahead) if isinstance(block.ahead, nn.Sequential) else (block.ahead,)
            self.f = Smooth.of(parts_of_unit(ahead, "lra_diff")[0])
            self.draws = self.draws or not self.f.is_known

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Any]:
        """See :class:`LearningRule`. The context is ``(z, a, y, u, f(u), kept weights)``; z, the affine layer's input,
        is f(u) with the hard part."""
        u = self.rows(x)
        smooth = self.below.run(at_least_float32(u))
        z = self._harden(smooth)
        sent = self.pre_activation(z, *self.affine)
        kept = Kept(*self.affine) if self.training and not self.spec.is_first else None
        return sent, (z, at_least_float32(sent), y, at_least_float32(u), smooth, kept)

    def compare(self, context: Any, target: Tensor) -> tuple[Tensor, Tensor]:
        """See :class:`LocalRepresentation`; ``target`` is t."""
        return self._compare(context[1], target)

    def _compare(self, a: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        z = self.f.run(a)
        losses, d = discrepancy(self.settings.loss, z - target)
        return losses, self.f.derive(d, a, z)

    def message(self, context: Any, e: Tensor, losses: Tensor, target: Tensor | None) -> Tensor:
        """See :class:`LocalRepresentation`: ``f(u)`` after the steps."""
        y, u, kept = context[2], context[3], context[5]
        smooth: Tensor = context[4]
        weight, bias = kept.tensors()
        falling = None
        for step in range(self.steps):
            if step:
                a = at_least_float32(self.pre_activation(self._harden(smooth), weight, bias))
                before = losses
                losses, e = self.output_error(a, y) if target is None else self._compare(a, target)
                fell = losses < before
                falling = fell if falling is None else falling & fell
            d = bounded(self.below.derive(e @ weight, u, smooth), self.settings.displacement_clip, rows=True)
            if falling is not None:
                d = d * falling.unsqueeze(1)
            u = torch.sub(u, d, alpha=self.settings.beta)
            smooth = self.below.run(u)
        return smooth

    def _harden(self, smooth: Tensor) -> Tensor:
        """Input of the affine layer for ``smooth``."""
        return smooth if self.hard_below is None else run([self.hard_below], smooth)


def build(
    block: Block, spec: BlockSpec, *, steps: Annotated[int, Range(1, 10_000)] = 1, settings: Settings = Settings()
) -> LearningRule:
    """Make the rule of one block; see :class:`LraDerivative`."""
    return LraDerivative(block, spec, settings, steps)
