"""The live table on a pretended terminal, and a fixture that closes what a test has opened."""

from dataclasses import replace
from io import StringIO

import pytest
from rich.console import Console
from tests.support.views import Clock, placed, report, resolved, text

from workers.view.live_table import LiveTable

__all__ = ["Shown", "show", "stripped"]


class Shown:
    """A view on a pretended terminal, and what it shows at this moment."""

    def __init__(self, mode="parallel", counts=(2, 2), file=None, environ=None, replicas=(), **kwargs):
        self.clock = Clock()
        self.file = file or StringIO()
        run, placement = resolved(mode, **kwargs), replace(placed(counts), counts=replicas)
        console = Console(
            file=self.file, force_terminal=True, width=100, highlight=False, _environ=environ or {"TERM": "xterm"}
        )
        self.view = LiveTable(run, placement, text(run, placement, self.clock), console)

    def lines(self, width=100):
        """Below the headline."""
        out = StringIO()
        Console(file=out, width=width, _environ={}).print(self.view)
        shown = [line.rstrip() for line in out.getvalue().splitlines()]
        first = next(i for i, line in enumerate(shown) if line.startswith(("starting", "epoch", "test set")))
        return shown[first:]

    def text(self):
        """Everything that was written to the terminal."""
        return self.file.getvalue()

    def begin(self, *plans):
        for plan in plans:
            self.view.planned(plan)
        self.view.started()

    def report(self, seconds, *args, **kwargs):
        self.clock.pass_s(seconds)
        self.view.progress(report(*args, **kwargs))

    def end(self, seconds, plan, rows):
        self.clock.pass_s(seconds)
        self.view.epoch(plan, rows)


@pytest.fixture
def show():
    opened = []

    def make(*args, **kwargs):
        opened.append(Shown(*args, **kwargs))
        return opened[-1]

    yield make
    for shown in opened:
        shown.view.close()


def stripped(line):
    """The cells of a line, which two spaces part."""
    return [cell.strip() for cell in line.split("  ") if cell]
