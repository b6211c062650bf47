"""The history of a run, as its schedule needs it, from the scores of its epochs."""

import math
from collections.abc import Sequence

from pipeline.records.reports import BlockScores
from pipeline.schedules.schedule import EpochResult, Schedule, Value, replayed

__all__ = ["losses_of", "replayed_rows", "values_of"]


def losses_of(blocks: Sequence[BlockScores], num_blocks: int) -> tuple[float | None, ...]:
    """The training loss of every block in an epoch; None of those that were not active."""
    losses = {block["block"]: block["train_loss"] for block in blocks}
    return tuple(losses.get(k) for k in range(num_blocks))


def values_of(blocks: Sequence[BlockScores], num_blocks: int) -> tuple[Value | None, ...]:
    """What the weights of every block are worth on the validation set after an epoch: accuracy, and of equal ones the
    loss; of numbers the loss alone. Empty where nothing was scored."""
    found: dict[int, Value] = {}
    for block in blocks:
        accuracy, loss = block.get("validation_accuracy"), block.get("validation_loss")
        if loss is not None:
            value = (-loss,) if accuracy is None else (accuracy, -loss)
            found[block["block"]] = tuple(-math.inf if math.isnan(number) else number for number in value)
    return tuple(found.get(k) for k in range(num_blocks)) if found else ()


def replayed_rows(
    schedule: Schedule, epochs: Sequence[Sequence[BlockScores]], num_blocks: int, cache_lost: Sequence[int] = ()
) -> list[EpochResult]:
    """The history of a run whose epochs had these scores; see :func:`replayed`."""
    losses = [losses_of(blocks, num_blocks) for blocks in epochs]
    return replayed(schedule, losses, cache_lost, [values_of(blocks, num_blocks) for blocks in epochs])
