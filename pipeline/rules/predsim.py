"""Predsim: a weighted sum of the losses of pred and of sim (Nøkland and Eidnes 2019)."""

from typing import Any

import torch
from torch import Tensor

from pipeline.learning.heads import PooledHead, clear_output
from pipeline.learning.local_rule import Output
from pipeline.learning.positions import check_maps
from pipeline.learning.rule import BlockSpec, LearningRule
from pipeline.learning.similarity import SimilarityHead, similarity_loss
from pipeline.learning.unsupervised import PartlyUnsupervised, Unsupervised
from pipeline.network.block import Block
from pipeline.ranges import Count, Share

__all__ = ["PredSim", "build", "check_beta"]


class PredSim(PartlyUnsupervised):
    """Local rule: hidden blocks minimise ``(1 - beta) pred + beta sim``, both of the same h.

    Source: Nøkland and Eidnes, "Training Neural Networks with Local Error Signals" (2019). Deviation: their code
    multiplies the output layer's loss by 1 - beta too; here the output block has its plain loss. Adam cannot tell
    the two apart, and plain descent would learn a hundred times slower.
    """

    splits_batches = False

    def __init__(
        self, block: Block, spec: BlockSpec, *, beta: float, dimdec: int, options: Unsupervised = Unsupervised()
    ) -> None:
        super().__init__(block, spec, options)
        check_maps(block, spec.body_shape, "predsim")
        self.head = PooledHead(spec.body_shape, spec.task.num_outputs, dimdec)
        self.project = SimilarityHead(spec.body_shape)
        self.add_unsupervised(self.project)
        self.beta = beta
        self.num_classes = max(2, spec.task.num_outputs)

    def loss(self, context: Any) -> Tensor:
        """The weighted sum."""
        h, y = context[:2]
        pred = self.spec.task.loss(self.head(h), y)
        both = torch.lerp(pred, similarity_loss(self.project(h), y, self.num_classes), self.beta)
        return self.mixed(both, context)

    def decode(self, context: Any) -> Tensor:
        """The output of pred's head."""
        with torch.no_grad():
            scores: Tensor = self.head(context[0])
        return scores


def check_beta(beta: float, rule: str) -> None:
    """Raise ValueError if beta, the share of sim's loss, is outside of 0 to 1. Args: rule, name for the message."""
    if not 0.0 <= beta <= 1.0:
        raise ValueError(f"{rule} cannot weight its losses (given: rule.beta = {beta}, expected: 0 to 1). Change it.")


def build(
    block: Block, spec: BlockSpec, *, beta: Share = 0.99, dimdec: Count = 2048, options: Unsupervised = Unsupervised()
) -> LearningRule:
    """Make the rule of one block; the last block descends on the output loss, its weight starting at 0.

    Args:
        beta: share of sim's loss, from 0 to 1.
        dimdec: features that the head of a convolutional block reads at most; the map is pooled to that.
        options: see :class:`Unsupervised`.

    Raises:
        ValueError: ``beta`` is not a share.
    """
    check_beta(beta, "predsim")
    if spec.is_last:
        return Output(clear_output(block), spec)
    return PredSim(block, spec, beta=beta, dimdec=dimdec, options=options)
