"""Direct random target projection: a fixed random projection of the label drives every block (Frenkel 2021)."""

from typing import Any

import torch
from torch import Tensor

from pipeline.learning.dense import Dense
from pipeline.learning.local_rule import LocalRule, Output
from pipeline.learning.rule import BlockSpec, LearningRule
from pipeline.network.block import Block

__all__ = ["DirectRandomTargetProjection", "build"]


class DirectRandomTargetProjection(LocalRule):
    """Direct random target projection: ``gamma_l = y B_l`` at the body's output, exact gradients inside the block.

    The body's output is that behind the nonlinearity and before pooling. y is one-hot, so gamma is the row of the
    sample's class in B_l (classes x features of the body), which is drawn uniform in +-sqrt(6/features) and never
    trained. As a loss it is ``sum(h * gamma)``, a mean over the batch: linear, of either sign, and bounded only where
    the nonlinearity saturates. The signal does not vanish when a sample is classified correctly, so units that do not
    saturate (ReLU) grow without bound. There is no decoder.

    Source: Frenkel, Lefebvre and Bol, "Learning Without Feedback: Fixed Random Learning Signals Allow for Feedforward
    Training of Deep Neural Networks" (2021), DRTP, with the scale of B from the authors' code. Deviations: the
    gradient is a mean over the batch, where their code sums (under plain descent their rate is ours divided by the
    batch size); the output block has the task's own loss, where they take logistic outputs; a binary task counts as
    two classes, for with one output half of the labels would be 0 and teach nothing.
    """

    matrix: Tensor

    def __init__(self, block: Block, spec: BlockSpec) -> None:
        super().__init__(block, spec, dense=Dense.of(block, spec.in_shape))
        matrix = torch.empty(max(2, spec.task.num_outputs), *spec.body_shape)
        bound = (6.0 / matrix[0].numel()) ** 0.5
        self.register_buffer("matrix", matrix.uniform_(-bound, bound))

    def loss(self, context: Any) -> Tensor:
        """The scalar whose derivative by the body's output is gamma / batch."""
        h, y = context[:2]
        products: Tensor = h * self.matrix[y]
        return products.sum() / len(h)

    def decode(self, context: Any) -> None:
        """None."""


def build(block: Block, spec: BlockSpec) -> LearningRule:
    """Make the rule of one block; the last block descends on the output loss.

    Args:
        block: its nonlinearity should saturate (tanh).
    """
    if spec.is_last:
        return Output(block, spec)
    return DirectRandomTargetProjection(block, spec)
