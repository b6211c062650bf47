"""Labels behind a fixed random projection: what the -bio rules ask of a block in place of the labels themselves."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.learning.similarity import match_similarity, similarity
from pipeline.numerics.autocast import at_least_float32, exact_product

__all__ = ["NUM_BITS", "TargetProjection"]

NUM_BITS = 128


class TargetProjection(nn.Module):
    """Fixed random projection P of the labels: a row of 128 numbers per class, uniform in +-1/sqrt(classes).

    The signs of a row are a code that a head can predict bit by bit; how alike two rows are is how alike samples of
    the two classes should be. A binary task counts as two classes.

    Args:
        num_outputs: outputs of the task; 1 of a binary one.
    """

    matrix: Tensor

    def __init__(self, num_outputs: int) -> None:
        super().__init__()
        self.num_outputs = num_outputs
        num_classes = max(2, num_outputs)
        bound = 1.0 / num_classes**0.5
        self.register_buffer("matrix", torch.empty(num_classes, NUM_BITS).uniform_(-bound, bound))

    def pred_loss(self, scores: Tensor, y: Tensor) -> Tensor:
        """Binary cross entropy of every bit: a mean over bits and batch, 0-d.

        Args:
            scores: logits, (batch, NUM_BITS).
            y: labels, (batch,), int64.
        """
        return F.binary_cross_entropy_with_logits(at_least_float32(scores), self._bits()[y])

    def sim_loss(self, x: Tensor, y: Tensor) -> Tensor:
        """Mean of ``(S(x) - S(y P))^2`` over the batch x batch pairs; x is (batch, ...)."""
        return match_similarity(x, similarity(self.matrix)[y.unsqueeze(1), y])

    def decode(self, scores: Tensor) -> Tensor:
        """Log-likelihood of each class's code, up to a term that is the same for all: (batch, num_outputs).

        For a binary task it is the logit: that of class 1 minus that of class 0.

        Args:
            scores: logits of the bits, (batch, NUM_BITS).
        """
        likelihood = exact_product(at_least_float32(scores), self._bits().t())
        return likelihood if self.num_outputs > 1 else likelihood[:, 1:] - likelihood[:, :1]

    def _bits(self) -> Tensor:
        """(classes, NUM_BITS), 0 or 1."""
        return (self.matrix > 0).to(self.matrix.dtype)
