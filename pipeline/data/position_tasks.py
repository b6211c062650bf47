"""Tasks beyond one class for each sample: a class at each position, and numbers."""

from math import exp, inf, log

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.data.task import Labels, Task, num_in_top5
from pipeline.numerics.autocast import at_least_float32
from pipeline.numerics.wire_format import label_dtype

__all__ = ["PositionClasses", "Regression"]


class PositionClasses(Task):
    """One of ``num_classes`` classes at each position: softmax, and cross entropy as a mean over all positions.

    Args:
        num_classes: at least 2.
        positions: shape of a sample's positions, at least one.
        is_bytes: the classes are bytes of a text: bits per byte is then the headline.
    """

    labels = Labels.CLASSES

    def __init__(self, num_classes: int, positions: tuple[int, ...], *, is_bytes: bool = False) -> None:
        self.num_outputs = num_classes
        self.positions = positions
        self.label_dtype = label_dtype(num_classes)
        self.headline = "bits_per_byte" if is_bytes else "accuracy"
        self.shares = ("top5",) if num_classes > 10 else ()
        self._is_bytes = is_bytes
        self._targets: tuple[Tensor, Tensor] | None = None

    def loss(self, scores: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(scores.flatten(0, -2), labels.flatten().long())

    def sample_losses(self, scores: Tensor, labels: Tensor) -> Tensor:
        each = F.cross_entropy(scores.flatten(0, -2), labels.flatten().long(), reduction="none")
        return each.view(len(labels), -1).mean(1)

    def error(self, scores: Tensor, labels: Tensor) -> Tensor:
        return (scores.softmax(-1) - self.targets(labels).to(scores.dtype)) / labels.numel()

    def targets(self, labels: Tensor) -> Tensor:
        """See :class:`Task`: one-hot, cached because all blocks of a stage ask for those of the same batch."""
        if self._targets is None or self._targets[0] is not labels:
            zeros = torch.zeros(*labels.shape, self.num_outputs, dtype=torch.float32, device=labels.device)
            self._targets = labels, zeros.scatter_(-1, labels.long().unsqueeze(-1), 1.0)
        return self._targets[1]

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_targets": None}

    def averaged(self, scores: Tensor) -> Tensor:
        """See :class:`Task`; of a softmax."""
        return scores.log_softmax(-1).logsumexp(0) - log(len(scores))

    def num_correct(self, scores: Tensor, labels: Tensor) -> Tensor:
        return (scores.argmax(-1) == labels).sum()

    def count_shares(self, scores: Tensor, labels: Tensor) -> Tensor:
        """See :class:`Task`."""
        return num_in_top5(scores, labels) if self.shares else super().count_shares(scores, labels)

    def metrics_of_loss(self, loss: float) -> dict[str, float]:
        """See :class:`Task`: perplexity of a position, and of bytes their bits."""
        bits = {"bits_per_byte": loss / log(2)} if self._is_bytes else {}
        return {**bits, "perplexity": inf if loss > 700 else exp(loss)}


class Regression(Task):
    """``num_outputs`` numbers for each sample, or at each position: mean squared error over all of them.

    Args:
        num_outputs: numbers, at least 1.
        positions: shape of a sample's positions; empty where the numbers are of the whole sample.
    """

    labels = Labels.NUMBERS
    label_dtype = torch.float32
    headline = "mse"

    def __init__(self, num_outputs: int, positions: tuple[int, ...] = ()) -> None:
        self.num_outputs = num_outputs
        self.positions = positions

    def loss(self, scores: Tensor, labels: Tensor) -> Tensor:
        scores = at_least_float32(scores)
        return F.mse_loss(scores, labels.to(scores.dtype))

    def sample_losses(self, scores: Tensor, labels: Tensor) -> Tensor:
        scores = at_least_float32(scores)
        return (scores - labels.to(scores.dtype)).square().flatten(1).mean(1)

    def error(self, scores: Tensor, labels: Tensor) -> Tensor:
        """See :class:`Task`; float32 at least: labels are never rounded to what the scores are under autocast."""
        scores = at_least_float32(scores)
        return (scores - labels.to(scores.dtype)) * (2.0 / labels.numel())

    def targets(self, labels: Tensor) -> Tensor:
        return labels.float()

    def averaged(self, scores: Tensor) -> Tensor:
        """See :class:`Task`: the mean itself."""
        return scores.mean(0)

    def num_correct(self, scores: Tensor, labels: Tensor) -> Tensor:
        """Raises TypeError: numbers are not right or wrong."""
        raise TypeError("numbers are neither right nor wrong (asked: how many are right). Ask for the loss.")

    def metrics_of_loss(self, loss: float) -> dict[str, float]:
        return {"mse": loss}
