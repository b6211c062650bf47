"""Glob+sim: backpropagation, to which every block adds its own similarity loss (Nøkland and Eidnes 2019)."""

from typing import Any

import torch
from torch import Tensor

from pipeline.data.task import Labels
from pipeline.learning.heads import clear_output
from pipeline.learning.positions import check_maps
from pipeline.learning.rule import BlockSpec, Learned, LearningRule
from pipeline.learning.similarity import SimilarityHead, similarity_loss
from pipeline.network.block import Block
from pipeline.ranges import NonNegative
from pipeline.rules.backprop import Backprop

__all__ = ["GlobSim", "build"]


class GlobSim(Backprop):
    """Backpropagation of ``output loss + sim_weight * (sum of all hidden blocks' similarity losses)``.

    A hidden block adds ``sim_weight d sim_l / dh`` to the derivative from above. Its similarity loss belongs to the
    forward pass: learned from later, it is still that of the forward's weights.

    Source: Nøkland and Eidnes, "Training Neural Networks with Local Error Signals" (2019), glob+sim. The sum without
    weights is what the authors' code does when nothing is detached; the paper's weighting was not verified.
    """

    splits_batches = False
    passes_frozen = False  # its own loss would still be learned from below
    learns_from = frozenset({Labels.CLASS})

    def __init__(self, block: Block, spec: BlockSpec, *, sim_weight: float) -> None:
        super().__init__(block, spec)
        check_maps(block, spec.body_shape, "glob_sim")
        self.project = SimilarityHead(spec.body_shape)
        self.sim_weight = sim_weight
        self.num_classes = max(2, spec.task.num_outputs)

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Any]:
        """See :class:`LearningRule`. The context is ``(x, out, y, loss)``, out and loss with their graph; no loss in
        evaluation."""
        if self.training and not self.spec.is_first:
            x = x.detach().requires_grad_()
        h = self.block.body(x)
        loss = similarity_loss(self.project(h), y, self.num_classes) if self.training else None
        out = self.block.outlet(h)
        return out.detach(), (x, out, y, loss)

    def learn(self, context: Any, feedback: tuple[Tensor, ...], *, weight: float = 1.0) -> Learned:
        """See :class:`LearningRule`. ``feedback`` and ``upstream`` are one tensor of the activation's shape."""
        x, out, _, loss = context
        roots, gradients = [loss], [torch.full_like(loss, self.sim_weight * weight)]
        if out.requires_grad:  # not so for a first block without parameters
            roots, gradients = [*roots, out], [*gradients, feedback[0]]
        torch.autograd.backward(roots, gradients)
        return Learned(loss.detach(), () if self.spec.is_first else (x.grad,))


def build(block: Block, spec: BlockSpec, *, sim_weight: NonNegative = 1.0) -> LearningRule:
    """Make the rule of one block; the last block descends on the output loss, its weight starting at 0.

    Args:
        sim_weight: factor on every hidden block's similarity loss, at least 0.

    Raises:
        ValueError: ``sim_weight`` is negative.
    """
    if sim_weight < 0.0:
        raise ValueError(
            f"glob_sim cannot weight its losses (given: rule.sim_weight = {sim_weight}, expected: at least 0). "
            "Change it."
        )
    return Backprop(clear_output(block), spec) if spec.is_last else GlobSim(block, spec, sim_weight=sim_weight)
