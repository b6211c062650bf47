"""What a person sees of a run: a live table on a terminal, plain lines elsewhere, nothing with ``--quiet``."""

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from pipeline.ledger import View
from pipeline.plan import Plan
from pipeline.resolve import Resolved
from workers.placement import Placement
from workers.run import Silent, ViewMaker

__all__ = ["Lines", "view_maker"]


def view_maker(*, quiet: bool) -> ViewMaker:
    """The view that fits this process's standard output."""

    def make(resolved: Resolved, placement: Placement, out: Path) -> View:
        if quiet:
            return Silent()
        return Lines(resolved, placement, out, sys.stdout)

    return make


class Lines:
    """A line at the start, one for each epoch, one at the end."""

    def __init__(self, resolved: Resolved, placement: Placement, out: Path, stream: TextIO) -> None:
        self._resolved = resolved
        self._stream = stream
        self._out = out
        self._since = time.perf_counter()
        config = resolved.config
        stages = " | ".join(f"{r.start}-{r.stop - 1}" for r in placement.partition)
        self._say(
            f"{config.rule.name} on {config.dataset.name}, {config.model.name} of {resolved.num_blocks} blocks, "
            f"{config.schedule.mode}, {placement.num_stages} stages (blocks {stages}), {placement.transport}, "
            f"{placement.threads} threads each"
        )

    def _say(self, text: str) -> None:
        """One line, at once."""
        self._stream.write(text + "\n")
        self._stream.flush()

    def planned(self, plan: Plan) -> None:
        """Nothing."""

    def started(self) -> None:
        """Nothing."""

    def finished(self, table: Mapping[str, Any]) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""

    def progress(self, body: Mapping[str, Any]) -> None:
        """Nothing: a log file wants no flicker."""

    def epoch(self, plan: Plan, blocks: Sequence[Mapping[str, Any]]) -> None:
        """One line."""
        top = blocks[-1]
        now = time.perf_counter()
        elapsed, self._since = now - self._since, now
        loss = top["train_loss"]
        accuracy = top["test_accuracy"]
        self._say(
            f"epoch {plan.epoch + 1:>3}  block {top['block']}  loss {loss:.4f}"
            + ("" if accuracy is None else f"  test accuracy {accuracy:.4f}")
            + f"  {elapsed:.2f} s"
        )
