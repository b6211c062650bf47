"""Sim-bio: a block's samples resemble each other as random codes of their labels do (Nøkland and Eidnes 2019)."""

from typing import Any

from torch import Tensor

from pipeline.learning.heads import AveragePool, clear_output
from pipeline.learning.local_rule import LocalRule, Output
from pipeline.learning.positions import check_maps
from pipeline.learning.rule import BlockSpec, LearningRule
from pipeline.learning.target_projection import TargetProjection
from pipeline.network.block import Block
from pipeline.ranges import Count

__all__ = ["SimBio", "build"]


class SimBio(LocalRule):
    """Local rule: hidden blocks minimise ``mean((S(avgpool(h)) - S(y P))^2)`` over the batch x batch pairs.

    S is that of sim. There is no learned projection: maps are average-pooled as pred's head does, vectors are compared
    as they are. There is no decoder. A binary task counts as two classes.

    Source: Nøkland and Eidnes, "Training Neural Networks with Local Error Signals" (2019), sim-bio, with the pool
    sizes of the authors' code.
    """

    splits_batches = False

    def __init__(self, block: Block, spec: BlockSpec, *, dimdec: int) -> None:
        super().__init__(block, spec)
        check_maps(block, spec.body_shape, "sim_bio", dimdec)
        self.pool = AveragePool(spec.body_shape, dimdec)
        self.target = TargetProjection(spec.task.num_outputs)

    def loss(self, context: Any) -> Tensor:
        """The similarity loss."""
        h, y = context
        return self.target.sim_loss(self.pool(h), y)

    def decode(self, context: Any) -> None:
        """None."""


def build(block: Block, spec: BlockSpec, *, dimdec: Count = 4096) -> LearningRule:
    """Make the rule of one block; the last block descends on the output loss, its weight starting at 0.

    Args:
        dimdec: features of a convolutional block that are compared at most; the map is pooled to that.
    """
    return Output(clear_output(block), spec) if spec.is_last else SimBio(block, spec, dimdec=dimdec)
