"""A run of Weights & Biases; ``WANDB_MODE=offline`` keeps it in the run's folder, ``WANDB_PROJECT`` names the project."""

import os
from collections.abc import Iterator

import wandb

from workers.listening.epochs import LoggedRun, LogRow

__all__ = ["build"]


def build(run: LoggedRun, rows: Iterator[LogRow]) -> None:
    """Logs the numbers of each epoch over ``epoch``, the config, and the result as the summary."""
    project = os.environ.get("WANDB_PROJECT", "onward")
    log = wandb.init(project=project, name=run.out.name, dir=str(run.out), config=dict(run.config))
    log.define_metric("*", step_metric="epoch")
    status = 0
    for row in rows:
        if row.event == "epoch":
            log.log({"epoch": row.epoch, **row.numbers})
        elif row.event == "result":
            log.summary.update({f"result/{name}": value for name, value in row.numbers.items()})
        else:
            status = 1
    log.finish(exit_code=status)
