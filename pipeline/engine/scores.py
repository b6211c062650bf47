"""A block's losses and its test accuracy over one epoch, kept on the device until the epoch ends."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from pipeline.data.task import Labels
from pipeline.engine.answers import Answers, Counted
from pipeline.learning.rule import Learned, LearningRule
from pipeline.records.reports import ScoreRow

__all__ = ["Mark", "Scores"]


class Mark(NamedTuple):
    """Where the scores of a block stood before a step."""

    num_losses: int
    credited: Tensor
    creditable: int
    answers: Counted


class Scores:
    """Sums for one block. Nothing is read back inside the step: ``.item()`` there would stall a GPU."""

    def __init__(self, rule: LearningRule, device: torch.device) -> None:
        self._rule = rule
        self._losses: list[Tensor] = []
        self._gathered: list[Tensor] = []
        self._counts: list[int] = []
        self.num_skipped = 0
        """Batches that were left out."""
        self._correct = torch.zeros((), dtype=torch.int64, device=device)
        self._test_loss = torch.zeros((), dtype=torch.float64, device=device)
        self._shares: Tensor | None = None
        self._tested = 0
        self._credited = torch.zeros((), dtype=torch.float64, device=device)
        self._creditable = 0
        self.answers = Answers(rule.num_correct, device)
        """To training samples; of the output block alone."""

    def add(self, learned: Learned, num_samples: int) -> None:
        """Notes what the block has learned from one micro-batch."""
        if learned.loss is not None:
            self.add_loss(learned.loss, num_samples)
        if learned.credited is not None:
            self.add_credit(learned.credited, num_samples)

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
            scores: (passes * batch, *task.out_shape), the batch in its order in every pass; None from a block without
                a decoder.
            y: labels, (passes * batch, *task.label_shape).
            passes: of each sample; their posteriors are averaged.
        """
        if scores is None:
            return
        task = self._rule.spec.task
        if passes > 1:
            scores, y = self._rule.averaged(scores.view(passes, -1, *scores.shape[1:])), y[: len(y) // passes]
        if task.labels is not Labels.NUMBERS:
            self._correct += self._rule.num_correct(scores, y)
        if task.shares:
            counted = task.count_shares(scores, y)
            self._shares = counted if self._shares is None else self._shares + counted
        self._test_loss += self._rule.decoded_loss(scores, y).double() * len(y)
        self._tested += len(y)

    def gather(self) -> Tensor | None:
        """The losses since the last call, (n,), in one tensor from now on; None where there are none."""
        if not self._losses:
            return None
        self._gathered.append(torch.stack(self._losses))
        self._losses.clear()
        return self._gathered[-1]

    def losses(self) -> Tensor:
        """All training losses of the epoch, (micro-batches,), in their order; 0 of those that were left out."""
        self.gather()
        return torch.cat(self._gathered) if self._gathered else torch.empty(0)

    def mark(self) -> Mark:
        """Where the scores stand."""
        return Mark(len(self._losses), self._credited.clone(), self._creditable, self.answers.counted())

    def since(self, mark: Mark) -> list[Tensor]:
        """The training losses since ``mark``, 0-d; :meth:`gather` must not have come between."""
        return self._losses[mark.num_losses :]

    def leave_out(self, mark: Mark) -> None:
        """Forgets what the micro-batches since ``mark`` brought: their losses count nothing, one batch is skipped."""
        for index in range(mark.num_losses, len(self._losses)):
            self._losses[index] = torch.zeros_like(self._losses[index])
            self._counts[index - len(self._losses)] = 0
        self._credited, self._creditable = mark.credited, mark.creditable
        self.answers.back_to(mark.answers)
        self.num_skipped += 1

    def take_back(self, mark: Mark) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Takes back what one micro-batch has brought since ``mark``: its loss, its credit and its right answers, None
        where there were none; :meth:`gather` must not have come between."""
        loss = credit = None
        if len(self._losses) > mark.num_losses:
            loss = self._losses.pop()
            self._counts.pop()
        if self._creditable > mark.creditable:
            credit = self._credited - mark.credited
            self._credited.copy_(mark.credited)
            self._creditable = mark.creditable
        return loss, credit, self.answers.take_back(mark.answers)

    @property
    def num_losses(self) -> int:
        """Micro-batches of this epoch that the block has learned from."""
        return len(self._counts)

    def newest_loss(self) -> float | None:
        """The last training loss."""
        newest = self._losses or self._gathered[-1:]
        return newest[-1].flatten()[-1].item() if newest else None

    def capture(self) -> dict[str, Tensor]:
        """Training losses, credit and batches left out of the epoch so far; empty before the first. Scores of the test
        set come after the last step, so none are under way where a run is cut."""
        if not self._counts and not self._creditable and not self.num_skipped:
            return {}
        counts = torch.tensor([*self._counts, self._creditable, self.num_skipped])
        return {"losses": self.losses(), "counts": counts, "credited": self._credited, **self.answers.capture()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Goes on from what :meth:`capture` returned: every loss, since the order of a sum is part of its bits."""
        if state:
            losses = state["losses"].to(self._credited.device)
            self._losses, self._gathered = [], [losses] if len(losses) else []  # of hidden blocks under backprop: none
            *self._counts, self._creditable, self.num_skipped = state["counts"].tolist()
            self._credited.copy_(state["credited"])
            self.answers.restore(state)

    def read(self) -> ScoreRow:
        """``train_loss``, ``test_accuracy``, ``test_loss`` and ``credit`` (the share of samples that the block was
        updated for), each None where there was nothing to measure; ``train_accuracy`` of the output block."""
        row: ScoreRow = {"train_loss": None, "test_accuracy": None, "test_loss": None, "credit": None}
        losses = self.losses().double().cpu()
        if any(self._counts):
            counts = torch.tensor(self._counts, dtype=torch.float64)
            row["train_loss"] = (losses @ counts / counts.sum()).item()
        if self._tested:
            self._read_test(row)
        if self._creditable:
            row["credit"] = self._credited.item() / self._creditable
        if (train_accuracy := self.answers.share()) is not None:
            row["train_accuracy"] = train_accuracy
        if self.num_skipped:
            row["skipped"] = self.num_skipped
        return row

    def _read_test(self, row: ScoreRow) -> None:
        """What the test set has given."""
        task = self._rule.spec.task
        positions = self._tested * task.num_positions
        row["test_loss"] = loss = self._test_loss.item() / self._tested
        if task.labels is not Labels.NUMBERS:
            row["test_accuracy"] = self._correct.item() / positions
        counts = [] if self._shares is None else self._shares.tolist()
        metrics = {name: count / positions for name, count in zip(task.shares, counts, strict=True)}
        if self._rule.scores_are_outputs:
            metrics |= task.metrics_of_loss(loss)
        if metrics:
            row["test_metrics"] = metrics
