"""Tasks: loss, error and accuracy of outputs against labels."""

from abc import ABC, abstractmethod
from functools import lru_cache
from math import log

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["Binary", "Classification", "Logistic", "Task", "scalar"]

_aten = torch.ops.aten


@lru_cache(maxsize=64)
def scalar(value: float, device: torch.device, dtype: torch.dtype) -> Tensor:
    """A cached 0-d tensor; never write to it. Making one in every step would cost more than the small products."""
    return torch.tensor(value, device=device, dtype=dtype)


class Task(ABC):
    """Loss and accuracy of outputs, of the network or of a block's own decoder, against labels.

    Scores are (batch, num_outputs), labels (batch,) of dtype int64; ``num_outputs`` is the width of the last block.
    """

    num_outputs: int

    @abstractmethod
    def loss(self, scores: Tensor, labels: Tensor) -> Tensor:
        """The output loss: a mean over the batch, 0-d, with the graph of ``scores``."""

    def sample_losses(self, scores: Tensor, labels: Tensor) -> Tensor:
        """Loss of each sample, (batch,)."""
        return torch.stack([self.loss(scores[i : i + 1], labels[i : i + 1]) for i in range(len(labels))])

    def loss_and_error(self, scores: Tensor, labels: Tensor, weight: float = 1.0) -> tuple[Tensor, Tensor]:
        """:meth:`loss`, detached, and the derivative of ``weight * loss`` by ``scores``, (batch, num_outputs).

        The derivative has autograd's bits, unlike :meth:`error`, a formula that may differ in the last one.
        """
        leaf = scores.detach().requires_grad_()
        with torch.enable_grad():
            loss = self.loss(leaf, labels)
            (error,) = torch.autograd.grad(loss if weight == 1.0 else loss * weight, leaf)
        return loss.detach(), error

    @abstractmethod
    def error(self, scores: Tensor, labels: Tensor) -> Tensor:
        """Derivative of :meth:`loss` by ``scores``, (batch, num_outputs), the 1/batch of the mean included."""

    @abstractmethod
    def targets(self, labels: Tensor) -> Tensor:
        """Regression targets of a decoder, (batch, num_outputs) float32; never write to them."""

    @abstractmethod
    def num_correct(self, scores: Tensor, labels: Tensor) -> Tensor:
        """Number of samples classified correctly by ``scores``, a 0-d int64 tensor."""

    def averaged(self, scores: Tensor) -> Tensor:
        """Scores of the mean posterior of several passes; here of one logistic unit per output.

        Args:
            scores: (passes, batch, num_outputs).

        Returns:
            (batch, num_outputs).
        """
        return F.logsigmoid(scores).logsumexp(0) - F.logsigmoid(-scores).logsumexp(0)

    def num_correct_decoded(self, decoded: Tensor, labels: Tensor) -> Tensor:
        """Number of samples classified correctly by a decoder that regresses on :meth:`targets`, 0-d int64."""
        return self.num_correct(decoded, labels)


class Classification(Task):
    """One of ``num_classes`` classes: softmax and cross entropy."""

    def __init__(self, num_classes: int) -> None:
        self.num_outputs = num_classes
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

    def _matrix(self, scores: Tensor, labels: Tensor) -> Tensor:
        """The targets in the dtype of ``scores``."""
        return self.targets(labels).to(scores.dtype)


class Binary(Task):
    """Two classes through one output: logistic unit and binary cross entropy."""

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
        """See :class:`Task`: the boundary of a regression on 0 and 1 is 0.5, that of a logit is 0."""
        return self.num_correct(decoded - 0.5, labels)
