"""Pred-bio: every block predicts a random code of the label; no weight is transported (Nøkland and Eidnes 2019)."""

from typing import Any

import torch
from torch import Tensor

from pipeline.learning.aligned_head import AlignedHead
from pipeline.learning.heads import clear_output
from pipeline.learning.local_rule import LocalRule, Output
from pipeline.learning.positions import check_maps
from pipeline.learning.rule import BlockSpec, LearningRule
from pipeline.learning.target_projection import NUM_BITS, TargetProjection
from pipeline.network.block import Block
from pipeline.ranges import Count

__all__ = ["PredBio", "build"]


class PredBio(LocalRule):
    """Local rule: each hidden block predicts a 128-bit random code of the label, without weight transport.

    It minimises ``BCE(W avgpool(h) + b, 1[y P > 0])``, a mean over the bits and the batch.
    The error reaches h through a fixed random B in place of W, then through average-pool, nonlinearity and
    normalisation exactly. W and b start at 0 and have their exact gradients.

    Source: Nøkland and Eidnes, "Training Neural Networks with Local Error Signals" (2019), pred-bio, with sizes and
    initial values of the authors' code. Additions: their hidden blocks have no answer of their own, here it is the
    class whose code is likeliest; a binary task counts as two classes.
    """

    def __init__(self, block: Block, spec: BlockSpec, *, dimdec: int, name: str = "pred_bio") -> None:
        super().__init__(block, spec)
        check_maps(block, spec.body_shape, name, dimdec)
        self.head = AlignedHead(spec.body_shape, NUM_BITS, dimdec)
        self.target = TargetProjection(spec.task.num_outputs)

    def loss(self, context: Any) -> Tensor:
        """The bits' cross entropy."""
        h, y = context
        return self.target.pred_loss(self.head(h), y)

    def decode(self, context: Any) -> Tensor:
        """Log-likelihood of each class's code, see :meth:`TargetProjection.decode`."""
        with torch.no_grad():
            return self.target.decode(self.head(context[0]))


def build(block: Block, spec: BlockSpec, *, dimdec: Count = 4096) -> LearningRule:
    """Make the rule of one block; the last block descends on the output loss, its weight starting at 0.

    Args:
        dimdec: features that the head of a convolutional block reads at most; the map is pooled to that.
    """
    return Output(clear_output(block), spec) if spec.is_last else PredBio(block, spec, dimdec=dimdec)
