"""Predsim-bio: a weighted sum of the losses of pred-bio and of sim-bio (Nøkland and Eidnes 2019)."""

from typing import Any

import torch
from torch import Tensor

from pipeline.learning.heads import clear_output
from pipeline.learning.local_rule import Output
from pipeline.learning.rule import BlockSpec, LearningRule
from pipeline.network.block import Block
from pipeline.ranges import Count, Share
from pipeline.rules.pred_bio import PredBio
from pipeline.rules.predsim import check_beta

__all__ = ["PredSimBio", "build"]


class PredSimBio(PredBio):
    """Local rule: hidden blocks minimise ``(1 - beta) pred_bio + beta sim_bio``, with one P and one pooling.

    Source: Nøkland and Eidnes, "Training Neural Networks with Local Error Signals" (2019), predsim-bio. beta is that
    of the authors' published command: nearly all weight on pred-bio, where predsim has nearly all on sim. Deviation:
    as in predsim, the output block has its plain loss.
    """

    splits_batches = False

    def __init__(self, block: Block, spec: BlockSpec, *, beta: float, dimdec: int) -> None:
        super().__init__(block, spec, dimdec=dimdec, name="predsim_bio")
        self.beta = beta

    def loss(self, context: Any) -> Tensor:
        """The weighted sum."""
        h, y = context
        return torch.lerp(super().loss(context), self.target.sim_loss(self.head.pool(h), y), self.beta)


def build(block: Block, spec: BlockSpec, *, beta: Share = 0.01, dimdec: Count = 4096) -> LearningRule:
    """Make the rule of one block; the last block descends on the output loss, its weight starting at 0.

    Args:
        beta: share of sim-bio's loss, from 0 to 1.
        dimdec: features of a convolutional block that both losses read at most; the map is pooled to that.

    Raises:
        ValueError: ``beta`` is not a share.
    """
    check_beta(beta, "predsim_bio")
    if spec.is_last:
        return Output(clear_output(block), spec)
    return PredSimBio(block, spec, beta=beta, dimdec=dimdec)
