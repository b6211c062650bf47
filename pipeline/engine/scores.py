"""A block's losses and its test accuracy over one epoch, kept on the device until the epoch ends."""

from collections.abc import Mapping

import torch
from torch import Tensor

from pipeline.learning.rule import LearningRule
from pipeline.records.reports import ScoreRow

__all__ = ["Scores"]


class Scores:
    """Sums for one block. Nothing is read back inside the step: ``.item()`` there would stall a GPU."""

    def __init__(self, rule: LearningRule, device: torch.device) -> None:
        self._rule = rule
        self._losses: list[Tensor] = []
        self._counts: list[int] = []
        self._correct = torch.zeros((), dtype=torch.int64, device=device)
        self._test_loss = torch.zeros((), dtype=torch.float64, device=device)
        self._tested = 0
        self._credited = torch.zeros((), dtype=torch.float64, device=device)
        self._creditable = 0

    def add_loss(self, loss: Tensor, num_samples: int) -> None:
        """Notes the mean training loss (a 0-d tensor) of one micro-batch."""
        self._losses.append(loss)
        self._counts.append(num_samples)

    def add_credit(self, num_credited: Tensor, num_samples: int) -> None:
        """Notes for how many samples (0-d) of a micro-batch the block was updated."""
        self._credited += num_credited
        self._creditable += num_samples

    def add_test(self, scores: Tensor | None, y: Tensor, passes: int = 1) -> None:
        """Scores one test batch.

        Args:
            scores: (passes * batch, num_outputs), the batch in its order in every pass; None from a block without a
                decoder.
            y: labels, (passes * batch,).
            passes: of each sample; their posteriors are averaged.
        """
        if scores is not None:
            if passes > 1:
                scores, y = self._rule.averaged(scores.view(passes, -1, *scores.shape[1:])), y[: len(y) // passes]
            self._correct += self._rule.num_correct(scores, y)
            self._test_loss += self._rule.decoded_loss(scores, y).double() * len(y)
            self._tested += len(y)

    @property
    def num_losses(self) -> int:
        """Micro-batches of this epoch that the block has learned from."""
        return len(self._losses)

    def newest_loss(self) -> float | None:
        """The last training loss."""
        return self._losses[-1].item() if self._losses else None

    def capture(self) -> dict[str, Tensor]:
        """Training losses and credit of the epoch so far; empty before the first micro-batch. Scores of the test set
        come after the last step, so none are under way where a run is cut."""
        if not self._losses and not self._creditable:
            return {}
        losses = torch.stack(self._losses) if self._losses else torch.empty(0)
        counts = torch.tensor([*self._counts, self._creditable])
        return {"losses": losses, "counts": counts, "credited": self._credited}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Goes on from what :meth:`capture` returned: the losses one by one, since the order of a sum is part of its
        bits."""
        if state:
            self._losses = list(state["losses"].to(self._credited.device).unbind())
            *self._counts, self._creditable = state["counts"].tolist()
            self._credited.copy_(state["credited"])

    def read(self) -> ScoreRow:
        """``train_loss``, ``test_accuracy``, ``test_loss`` and ``credit`` (the share of samples that the block was
        updated for), each None where there was nothing to measure."""
        row: ScoreRow = {"train_loss": None, "test_accuracy": None, "test_loss": None, "credit": None}
        if self._losses:
            losses = torch.stack(self._losses).double().cpu()
            counts = torch.tensor(self._counts, dtype=torch.float64)
            row["train_loss"] = (losses @ counts / counts.sum()).item()
        if self._tested:
            row["test_accuracy"] = self._correct.item() / self._tested
            row["test_loss"] = self._test_loss.item() / self._tested
        if self._creditable:
            row["credit"] = self._credited.item() / self._creditable
        return row
