"""A run of Weights & Biases; ``WANDB_MODE=offline`` keeps it in the run's folder."""

import os
from collections.abc import Iterator

import wandb

from workers.listening.epochs import LoggedRun, LogRow

__all__ = ["build"]


def build(run: LoggedRun, rows: Iterator[LogRow]) -> None:
    """Logs the config, the numbers of each epoch over ``epoch``, and the result as the summary.

    The project is ``$WANDB_PROJECT``, else onward.

    Raises:
        RuntimeError: nobody is logged in; wandb itself would ask for a key, on a terminal that shows the run.
    """
    if os.environ.get("WANDB_MODE", "online") == "online" and not wandb.login(prompt=False):
        raise RuntimeError("nobody is logged in. Run wandb login, or set WANDB_MODE=offline")
    log = wandb.init(
        project=os.environ.get("WANDB_PROJECT", "onward"), name=run.out.name, dir=str(run.out),
        config=dict(run.config), settings=wandb.Settings(console="off", quiet=True),
    )  # fmt: skip
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
