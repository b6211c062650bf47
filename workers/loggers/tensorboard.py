"""Scalars in ``tensorboard/`` of the run's folder, for ``tensorboard --logdir runs``."""

from collections.abc import Iterator
from itertools import chain

from torch.utils.tensorboard import SummaryWriter

from workers.listening.epochs import LoggedRun, LogRow

__all__ = ["build"]


def build(run: LoggedRun, rows: Iterator[LogRow]) -> None:
    """Writes the numbers of each epoch at its number; those of the result below ``result/``."""
    first = next(rows, None)
    if first is None:
        return
    # Epochs that a run goes through again replace those of before.
    with SummaryWriter(str(run.out / "tensorboard"), purge_step=first.epoch or None) as writer:
        for row in chain([first], rows):
            for name, value in row.numbers.items():
                writer.add_scalar(name if row.event == "epoch" else f"result/{name}", value, row.epoch)
            writer.flush()
