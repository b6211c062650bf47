"""A run of Trackio, on this machine unless its own settings say otherwise; ``trackio show`` opens it."""

from collections.abc import Iterator

import trackio

from workers.listening.epochs import LoggedRun, LogRow

__all__ = ["build"]


def build(run: LoggedRun, rows: Iterator[LogRow]) -> None:
    """Logs the numbers of each epoch at its number, and those of the result behind them."""
    log = trackio.init(project="onward", name=run.out.name, config=dict(run.config))
    for row in rows:
        if row.event != "failure":
            names = {f"result/{name}": value for name, value in row.numbers.items()}
            log.log(dict(row.numbers) if row.event == "epoch" else names, step=row.epoch)
    log.finish()
