"""What was selected by what: a part of ``result.json``, so that no figure looks more honest than it is."""

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.records.reports import BlockScores
from pipeline.schedules.plan import BlockMode, Plan
from pipeline.schedules.schedule import EpochResult

__all__ = ["selection_table"]


def selection_table(
    plans: Sequence[Plan | None], history: Sequence[EpochResult], scores: Sequence[Mapping[int, BlockScores]],
    *, num_validation: int, eval_every: int,
) -> dict[str, Any]:  # fmt: skip
    """``selection`` in ``result.json``.

    Args:
        plans: of all epochs, with the one that scores the test set where there is a validation set.
        history: the finished epochs.
        scores: for each of them, the rows of the blocks that were active.
        num_validation: samples of the validation set; 0: there is none.
        eval_every: epochs between evaluations.

    Returns:
        ``by``; ``epoch``, from 0, whose weights the run ends with; ``test_set``, how often that was scored. With a
        validation set also ``validation``, the scores there, ``validation_samples``, and ``blocks``, the epoch that
        the weights of each block come from; None of one that has not trained.
    """
    last = len(history) - 1
    if not num_validation:
        every = "every epoch" if eval_every == 1 else f"every {eval_every} epochs, and the last"
        return {"by": "nothing: the last epoch", "epoch": last, "test_set": f"scored in {every}"}
    choice = next(plan.choice for plan in plans if plan is not None and plan.scores_test)
    assert choice is not None and choice.best is not None, "the last plan has chosen"
    top = max(scores[choice.best])
    row = scores[choice.best][top]
    by = "loss" if row.get("validation_accuracy") is None else "accuracy"
    return {
        "by": f"validation {by}", "epoch": choice.best, "test_set": "scored once, by the weights of that epoch",
        "validation": {
            "accuracy": row.get("validation_accuracy"), "loss": row.get("validation_loss"),
            **row.get("validation_metrics", {}),
        },
        "validation_samples": num_validation, "blocks": _blocks_from(plans, choice.best),
    }  # fmt: skip


def _blocks_from(plans: Sequence[Plan | None], best: int) -> list[int | None]:
    """The epoch after which each block is as it ended: its last one, or the one that was put back; None of a block that
    has not trained."""
    known = [plan for plan in plans if plan is not None]
    trained = [any(plan.modes[k] is BlockMode.TRAIN for plan in known) for k in range(len(known[0].modes))]
    found = [best] * len(trained)
    for plan, following in zip(known, known[1:], strict=False):
        if following.top != plan.top:
            restored = following.choice.restore if following.choice is not None else None
            found[plan.top] = plan.epoch if restored is None else restored
    return [epoch if has_trained else None for epoch, has_trained in zip(found, trained, strict=True)]
