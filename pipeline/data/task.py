"""Tasks: loss, error and metrics of outputs against labels."""

from abc import ABC, abstractmethod
from enum import Enum
from functools import lru_cache
from math import log, prod
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["Binary", "Classification", "Labels", "Logistic", "Task", "num_in_top5", "scalar"]

_aten = torch.ops.aten
_TOP5_ABOVE = 10
"""Classes; of fewer, five of them say little."""


@lru_cache(maxsize=64)
def scalar(value: float, device: torch.device, dtype: torch.dtype) -> Tensor:
    """A cached 0-d tensor; never write to it. Making one in every step would cost more than the small products."""
    return torch.tensor(value, device=device, dtype=dtype)


def num_in_top5(scores: Tensor, labels: Tensor) -> Tensor:
    """Rows of ``scores``, (..., classes), whose label, (...), is among the five with the highest, (1,) int64."""
    return (scores.topk(5, -1).indices == labels.unsqueeze(-1)).sum().view(1)


class Labels(Enum):
    """What the labels of a sample are; a rule declares which of them it learns from."""

    CLASS = "one class for each sample"
    CLASSES = "a class at each position"
    NUMBERS = "floating-point numbers"


class Task(ABC):
    """Loss and metrics of outputs, of the network or of a block's own decoder, against labels.

    Scores are (batch, *positions, num_outputs); ``num_outputs`` is the width of the last block. Labels are (batch,
    *positions) for classes and have the shape of the scores for numbers. Without positions a sample has one label,
    (batch,) of dtype int64, or one vector of numbers. Every sample has the same positions, so that a share of a
    batch's samples is the same share of what its loss is a mean over.
    """

    num_outputs: int
    labels: ClassVar[Labels] = Labels.CLASS
    positions: tuple[int, ...] = ()
    """Shape of a sample's positions: ``(length,)`` of a sequence."""
    label_dtype: torch.dtype = torch.int64
    """Dtype of the labels, in the data set and between stages. One class for each sample is int64, as rules index
    with it; at many positions it is the narrowest that holds the classes."""
    headline: str = "accuracy"
    """The metric that a progress line shows."""
    shares: tuple[str, ...] = ()
    """Metrics beside the accuracy that are shares of the positions, see :meth:`count_shares`."""

    @property
    def num_positions(self) -> int:
        """Positions of a sample, 1 where it has one label."""
        return prod(self.positions)

    @property
    def out_shape(self) -> tuple[int, ...]:
        """Shape of the scores of one sample."""
        return (*self.positions, self.num_outputs)

    @property
    def label_shape(self) -> tuple[int, ...]:
        """Shape of the labels of one sample."""
        return self.out_shape if self.labels is Labels.NUMBERS else self.positions

    def count_shares(self, scores: Tensor, labels: Tensor) -> Tensor:
        """Number of positions that count for each of :attr:`shares`, (len(shares),) int64."""
        return torch.zeros(0, dtype=torch.int64, device=scores.device)

    def metrics_of_loss(self, loss: float) -> dict[str, float]:
        """Metrics that are functions of the mean of :meth:`loss`, by name."""
        return {}

    @abstractmethod
    def loss(self, scores: Tensor, labels: Tensor) -> Tensor:
        """The output loss: a mean over the batch and its positions, 0-d, with the graph of ``scores``."""

    def sample_losses(self, scores: Tensor, labels: Tensor) -> Tensor:
        """Loss of each sample, (batch,)."""
        return torch.stack([self.loss(scores[i : i + 1], labels[i : i + 1]) for i in range(len(labels))])

    def loss_and_error(self, scores: Tensor, labels: Tensor, weight: float = 1.0) -> tuple[Tensor, Tensor]:
        """:meth:`loss`, detached, and the derivative of ``weight * loss`` by ``scores``, of their shape.

        The derivative has autograd's bits, unlike :meth:`error`, a formula that may differ in the last one.
        """
        leaf = scores.detach().requires_grad_()
        with torch.enable_grad():
            loss = self.loss(leaf, labels)
            (error,) = torch.autograd.grad(loss if weight == 1.0 else loss * weight, leaf)
        return loss.detach(), error

    @abstractmethod
    def error(self, scores: Tensor, labels: Tensor) -> Tensor:
        """Derivative of :meth:`loss` by ``scores``, of their shape, the 1/n of the mean included."""

    @abstractmethod
    def targets(self, labels: Tensor) -> Tensor:
        """Regression targets of a decoder, (batch, *positions, num_outputs) float32; never write to them."""

    @abstractmethod
    def num_correct(self, scores: Tensor, labels: Tensor) -> Tensor:
        """Number of positions classified correctly by ``scores``, a 0-d int64 tensor; not asked for of numbers."""

    def averaged(self, scores: Tensor) -> Tensor:
        """Scores of the mean posterior of several passes; here of one logistic unit per output.

        Args:
            scores: (passes, batch, *positions, num_outputs).

        Returns:
            (batch, *positions, num_outputs).
        """
        return F.logsigmoid(scores).logsumexp(0) - F.logsigmoid(-scores).logsumexp(0)

    def told(self, scores: Tensor) -> tuple[Tensor, Tensor]:
        """The class of each sample, (batch,) int64, and its probability, (batch,).

        Args:
            scores: (batch, num_outputs).

        Raises:
            TypeError: labels are not one class for each sample.
        """
        raise TypeError(f"scores tell no class of a sample (given: labels that are {self.labels.value})")

    def num_correct_decoded(self, decoded: Tensor, labels: Tensor) -> Tensor:
        """Number of samples classified correctly by a decoder that regresses on :meth:`targets`, 0-d int64."""
        return self.num_correct(decoded, labels)


class Classification(Task):
    """One of ``num_classes`` classes: softmax and cross entropy."""

    def __init__(self, num_classes: int) -> None:
        self.num_outputs = num_classes
        self.shares = ("top5",) if num_classes > _TOP5_ABOVE else ()
        self._targets: tuple[Tensor, Tensor] | None = None

    def loss(self, scores: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(scores, labels)

    def sample_losses(self, scores: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(scores, labels, reduction="none")

    def loss_and_error(self, scores: Tensor, labels: Tensor, weight: float = 1.0) -> tuple[Tensor, Tensor]:
        """See :class:`Task`; the four operations that autograd would call, without its graph."""
        scores = scores.detach()
        logs = torch.log_softmax(scores, 1)
        loss, total = _aten.nll_loss_forward.default(logs, labels, None, 1, -100)
        error = _aten.nll_loss_backward.default(
            scalar(weight, scores.device, scores.dtype), logs, labels, None, 1, -100, total
        )
        return loss, _aten._log_softmax_backward_data.default(error, logs, 1, scores.dtype)

    def error(self, scores: Tensor, labels: Tensor) -> Tensor:
        return (scores.softmax(1) - F.one_hot(labels, self.num_outputs)) / len(labels)

    def targets(self, labels: Tensor) -> Tensor:
        """See :class:`Task`: one-hot, cached because all blocks of a stage ask for those of the same batch."""
        if self._targets is None or self._targets[0] is not labels:
            self._targets = labels, F.one_hot(labels, self.num_outputs).float()
        return self._targets[1]

    def averaged(self, scores: Tensor) -> Tensor:
        """See :class:`Task`; of a softmax."""
        return scores.log_softmax(2).logsumexp(0) - log(len(scores))

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_targets": None}

    def num_correct(self, scores: Tensor, labels: Tensor) -> Tensor:
        return (scores.argmax(1) == labels).sum()

    def count_shares(self, scores: Tensor, labels: Tensor) -> Tensor:
        """See :class:`Task`: samples whose class is among the five with the highest scores."""
        return num_in_top5(scores, labels) if self.shares else super().count_shares(scores, labels)

    def told(self, scores: Tensor) -> tuple[Tensor, Tensor]:
        """See :class:`Task`."""
        labels = scores.argmax(1)
        return labels, self._probabilities(scores).gather(1, labels.unsqueeze(1)).squeeze(1)

    def _probabilities(self, scores: Tensor) -> Tensor:
        """Of all classes, (batch, num_outputs)."""
        return scores.softmax(1)


class Logistic(Classification):
    """One of ``num_classes`` classes with one logistic unit each: the sum of their binary cross entropies.

    Source: the output of Nøkland, "Direct Feedback Alignment Provides Learning in Deep Neural Networks" (2016), with a
    mean over the batch.
    """

    def loss(self, scores: Tensor, labels: Tensor) -> Tensor:
        total = F.binary_cross_entropy_with_logits(scores, self._matrix(scores, labels), reduction="sum")
        return total / len(labels)

    def sample_losses(self, scores: Tensor, labels: Tensor) -> Tensor:
        matrix = self._matrix(scores, labels)
        return F.binary_cross_entropy_with_logits(scores, matrix, reduction="none").sum(1)

    def loss_and_error(self, scores: Tensor, labels: Tensor, weight: float = 1.0) -> tuple[Tensor, Tensor]:
        """See :class:`Task`; by autograd."""
        return Task.loss_and_error(self, scores, labels, weight)

    def error(self, scores: Tensor, labels: Tensor) -> Tensor:
        return (scores.sigmoid() - self._matrix(scores, labels)) / len(labels)

    def averaged(self, scores: Tensor) -> Tensor:
        """See :class:`Task`."""
        return Task.averaged(self, scores)

    def _probabilities(self, scores: Tensor) -> Tensor:
        """See :class:`Classification`; each by its own unit."""
        return scores.sigmoid()

    def _matrix(self, scores: Tensor, labels: Tensor) -> Tensor:
        """The targets in the dtype of ``scores``."""
        return self.targets(labels).to(scores.dtype)


class Binary(Task):
    """Two classes through one output: logistic unit and binary cross entropy."""

    num_outputs = 1

    def told(self, scores: Tensor) -> tuple[Tensor, Tensor]:
        """See :class:`Task`."""
        of_one, labels = scores.squeeze(1).sigmoid(), (scores.squeeze(1) > 0).long()
        return labels, torch.where(labels > 0, of_one, 1.0 - of_one)

    def loss(self, scores: Tensor, labels: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(scores.squeeze(1), labels.to(scores.dtype))

    def error(self, scores: Tensor, labels: Tensor) -> Tensor:
        return (scores.sigmoid() - labels.to(scores.dtype).unsqueeze(1)) / len(labels)

    def targets(self, labels: Tensor) -> Tensor:
        return labels.float().unsqueeze(1)

    def num_correct(self, scores: Tensor, labels: Tensor) -> Tensor:
        return ((scores.squeeze(1) > 0) == (labels > 0)).sum()

    def num_correct_decoded(self, decoded: Tensor, labels: Tensor) -> Tensor:
        """See :class:`Task`: the boundary of a regression on 0 and 1 is 0.5, that of a logit is 0."""
        return self.num_correct(decoded - 0.5, labels)
