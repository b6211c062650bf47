"""What the network is asked for: how outputs are scored against labels."""

from abc import ABC, abstractmethod

import torch.nn.functional as F
from torch import Tensor

__all__ = ["Binary", "Classification", "Task"]


class Task(ABC):
    """Scores outputs, of the network or of a block's own decoder, against labels.

    Labels are always ``(batch,)`` of dtype int64; ``num_outputs`` is the width of the last block.
    """

    num_outputs: int

    @abstractmethod
    def loss(self, scores: Tensor, labels: Tensor) -> Tensor:
        """The output loss, a mean over the batch. Args: scores (batch, num_outputs), labels (batch,)."""

    @abstractmethod
    def error(self, scores: Tensor, labels: Tensor) -> Tensor:
        """Derivative of :meth:`loss` by ``scores``, (batch, num_outputs); the 1/batch of the mean included."""

    @abstractmethod
    def targets(self, labels: Tensor) -> Tensor:
        """Labels as a float matrix (batch, num_outputs) that a decoder can regress on."""

    @abstractmethod
    def num_correct(self, scores: Tensor, labels: Tensor) -> Tensor:
        """Number of samples that ``scores`` puts into the right class, a 0-d int64 tensor."""

    def num_correct_decoded(self, decoded: Tensor, labels: Tensor) -> Tensor:
        """As :meth:`num_correct`, for a decoder that regresses on :meth:`targets`."""
        return self.num_correct(decoded, labels)


class Classification(Task):
    """One of ``num_classes`` classes: softmax and cross entropy."""

    def __init__(self, num_classes: int) -> None:
        self.num_outputs = num_classes

    def loss(self, scores: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(scores, labels)

    def error(self, scores: Tensor, labels: Tensor) -> Tensor:
        return (scores.softmax(1) - F.one_hot(labels, self.num_outputs)) / len(labels)

    def targets(self, labels: Tensor) -> Tensor:
        return F.one_hot(labels, self.num_outputs).float()

    def num_correct(self, scores: Tensor, labels: Tensor) -> Tensor:
        return (scores.argmax(1) == labels).sum()


class Binary(Task):
    """Yes or no through one output: logistic unit and binary cross entropy."""

    num_outputs = 1

    def loss(self, scores: Tensor, labels: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(scores.squeeze(1), labels.to(scores.dtype))

    def error(self, scores: Tensor, labels: Tensor) -> Tensor:
        return (scores.sigmoid() - labels.to(scores.dtype).unsqueeze(1)) / len(labels)

    def targets(self, labels: Tensor) -> Tensor:
        return labels.float().unsqueeze(1)

    def num_correct(self, scores: Tensor, labels: Tensor) -> Tensor:
        return ((scores.squeeze(1) > 0) == (labels > 0)).sum()

    def num_correct_decoded(self, decoded: Tensor, labels: Tensor) -> Tensor:
        """A regression on 0 and 1 is split half way, not at 0 as a logit is."""
        return self.num_correct(decoded - 0.5, labels)
