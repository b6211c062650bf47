import os
from io import StringIO
from pathlib import Path

import pytest
from tests.support.views import Clock, blocks, parallel, placed, report, resolved, result, text

from pipeline.records.run_state import RunState
from pipeline.records.view import Silent, View
from workers.listening.listened import Listened
from workers.view.live_table import LiveTable
from workers.view.terminal import Lines, view_maker

METHODS = [name for name in vars(View) if not name.startswith("_")]


class Terminal(StringIO):
    def isatty(self):
        return True


@pytest.fixture
def stdout(monkeypatch):
    """Replaces standard output and clears what decides how rich takes it."""

    def put(stream, **environ):
        for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "NO_COLOR"):
            monkeypatch.delenv(name, raising=False)
        for name, value in {"TERM": "xterm", **environ}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr("sys.stdout", stream)
        return stream

    return put


def made(quiet=False):
    return view_maker(quiet=quiet)(resolved(), placed(), Path("runs/one"))


def tell_all(view, clock):
    """A run of two epochs, the first without evaluation."""
    for epoch in range(2):
        view.planned(parallel(epoch))
    view.started()
    view.progress(report(0, 0, 0, 64))
    clock.pass_s(1.0)
    view.epoch(parallel(0, evaluate=False), blocks(0, [0.1, 0.2, 0.3, 0.4], [None] * 4))
    clock.pass_s(0.5)
    view.epoch(parallel(1), blocks(0, [0.1, 0.2, 0.3, 0.25], [0.95, 0.96, 0.97, 0.98]))
    view.finished(result([0.95, 0.96, 0.97, 0.98]))
    view.close()


def test_quiet_is_silent_on_a_terminal_too(stdout):
    stream = stdout(Terminal())
    view = made(quiet=True)
    assert isinstance(view, Silent)
    tell_all(view, Clock())
    assert stream.getvalue() == ""


def test_a_terminal_gets_the_table(stdout):
    stream = stdout(Terminal())
    view = made()
    view.close()
    assert isinstance(view, LiveTable)
    assert "starting 2 stages" in stream.getvalue()


@pytest.mark.parametrize("environ", [{"TERM": "dumb"}, {"TTY_COMPATIBLE": "0"}, {"TTY_INTERACTIVE": "0"}])
def test_a_terminal_that_cannot_move_its_cursor_gets_lines(stdout, environ):
    stdout(Terminal(), **environ)
    assert isinstance(made(), Lines)


def test_a_file_gets_lines_even_where_colours_are_forced(stdout):
    stream = stdout(StringIO(), FORCE_COLOR="1")
    assert isinstance(made(), Lines)
    assert "\x1b" not in stream.getvalue()


@pytest.mark.parametrize("kind", [Silent, Lines, LiveTable, Listened])
def test_every_view_has_every_method(kind):
    assert METHODS == ["planned", "started", "progress", "epoch", "finished", "row", "close"]
    assert [name for name in METHODS if callable(getattr(kind, name, None))] == METHODS


def test_lines():
    stream, clock = StringIO(), Clock()
    tell_all(Lines(text(resolved(), placed(), clock), stream), clock)
    assert stream.getvalue().splitlines() == [
        "predsim on digits, mlp of 4 blocks, parallel mode, 2 stages (blocks 0-1 | 2-3) on cpu, 1 thread each, "
        "shared_memory, 20 epochs of 23 steps",
        "epoch  1/20  loss    0.4000  test accuracy      - %      1 437 samples/s     1.00 s",
        "epoch  2/20  loss    0.2500  test accuracy  98.00 %      2 874 samples/s     0.50 s",
        "done: test accuracy 98.00 %, blocks 0-3: 95.00 96.00 97.00 98.00 %, 17 553 samples/s over 1.64 s, "
        "files in runs/one",
    ]


def test_a_line_is_there_as_soon_as_it_is_told(tmp_path):
    with (tmp_path / "log").open("w") as stream:
        Lines(text(resolved(), placed(), Clock()), stream)
        assert (tmp_path / "log").read_text().startswith("predsim on digits, ")


def test_a_reader_that_goes_away_does_not_end_the_run():
    read, write = os.pipe()
    clock = Clock()
    with os.fdopen(write, "w") as stream:
        view = Lines(text(resolved(), placed(), clock), stream)
        assert os.read(read, 1000).startswith(b"predsim on digits, ")
        os.close(read)
        tell_all(view, clock)
    assert stream.closed  # what it could not write did not come back as an error


class Full(StringIO):
    def write(self, text):
        raise OSError(28, "No space left on device")


def test_a_full_disk_does_not_end_the_run():
    clock = Clock()
    view = Lines(text(resolved(), placed(), clock), Full())
    tell_all(view, clock)
    assert view._stream is None


class Heard:
    """Remembers which calls came."""

    def __init__(self):
        self.calls = []

    def __getattr__(self, name):
        return lambda *args: self.calls.append((name, *args))


class Rows:
    def write(self, row):
        """Nowhere."""


def test_the_ledger_tells_its_view_the_plans_and_the_start():
    view = Heard()
    run_state = RunState(resolved(epochs=2).schedule(), 1, 4, Rows(), view)
    run_state.new_plans()
    run_state.ready()
    assert view.calls == [("planned", parallel(0)), ("planned", parallel(1)), ("started",)]
