"""How the live table ends: complete, interrupted, or with its terminal gone."""

import sys
from io import StringIO

import pytest
from tests.support.shown import show, stripped  # noqa: F401
from tests.support.views import blocks, parallel, result, sequential

SHOW_CURSOR, HIDE_CURSOR = "\x1b[?25h", "\x1b[?25l"


def test_the_end_leaves_the_last_state_and_a_summary(show):
    shown = show(epochs=1)
    shown.begin(parallel(0))
    shown.end(1.0, parallel(0), blocks(0, [0.1] * 4, [0.95, 0.96, 0.97, 0.98]))
    shown.view.finished(result([0.95, 0.96, 0.97, 0.98]))
    end = shown.text()[shown.text().rindex("epoch 1/1  ") :]
    assert "100 %" in end
    assert "95.00 96.00" in end
    assert "done: test accuracy 98.00 %, blocks 0-3: 95.00 96.00 97.00 98.00 %, 17 553 samples/s over 1.64 s" in end
    assert end.rstrip().endswith("files in runs/one")
    shown.view.close()
    assert shown.text().count("done: ") == 1


def test_the_end_of_a_sequential_run_is_complete_though_the_last_block_was_early(show):
    shown = show("sequential")
    shown.begin(sequential(30, 3, 4))
    shown.end(1.0, sequential(30, 3, 4), blocks(3, [0.1], [0.98]))
    shown.view.finished(result([0.95, 0.96, 0.97, 0.98]))
    bar, _, _, *stages = shown.lines()
    assert bar.endswith("  100 %  1 s")
    assert [stripped(s)[2] for s in stages] == ["-", "-"]


def test_the_clock_stands_still_after_the_end(show):
    shown = show()
    shown.begin(parallel(0))
    shown.report(2.0, 0, 0, 11, 768)
    shown.view.close()
    before = shown.lines()
    shown.clock.pass_s(50.0)
    assert shown.lines() == before
    assert before[0].endswith("  2 s")


def test_close_gives_back_the_cursor_and_the_streams_once(show):
    before = sys.stdout, sys.stderr
    shown = show()
    assert HIDE_CURSOR in shown.text()
    shown.view.close()
    text = shown.text()
    assert text.rindex(SHOW_CURSOR) > text.rindex(HIDE_CURSOR)
    assert (sys.stdout, sys.stderr) == before
    shown.view.close()
    assert shown.text() == text


def test_an_interrupt_while_closing_still_gives_back_the_cursor(show, monkeypatch):
    shown = show()

    def interrupted():
        raise KeyboardInterrupt

    stop = shown.view._live.stop
    monkeypatch.setattr(shown.view._live, "stop", interrupted)
    with pytest.raises(KeyboardInterrupt):
        shown.view.close()
    assert shown.text().endswith(SHOW_CURSOR)
    stop()


def test_reports_after_the_end_are_harmless(show):
    shown = show()
    shown.begin(parallel(0), parallel(1))
    shown.view.close()
    text = shown.text()
    shown.report(1.0, 0, 0, 11, 768)
    shown.end(1.0, parallel(0), blocks(0, [0.1] * 4, [0.95] * 4))
    assert shown.text() == text


class Unplugged(StringIO):
    """A terminal that can be pulled out."""

    gone = False

    def write(self, text):
        if self.gone:
            raise OSError(5, "Input/output error")
        return super().write(text)


def test_a_terminal_that_goes_away_does_not_end_the_run(show):
    file = Unplugged()
    shown = show(file=file)
    shown.view._live._refresh_thread.stop()  # its last words would be a traceback
    shown.begin(parallel(0))
    shown.end(1.0, parallel(0), blocks(0, [0.1] * 4, [0.95] * 4))
    file.gone = True
    shown.view.finished(result([0.95] * 4))
    shown.view.close()
    assert "done" not in shown.text()


def test_no_color(show):
    def styled(environ):
        shown = show(environ=environ)
        shown.begin(parallel(0))
        shown.view.close()
        return "\x1b[38" in shown.text()

    assert styled({"TERM": "xterm-256color"})
    assert not styled({"TERM": "xterm-256color", "NO_COLOR": "1"})
