"""A view that others listen to: what it passes on, and how long it waits for them at the end."""

import json
import threading

import pytest
from tests.support.views import parallel, placed, report, resolved

from pipeline.errors import Stop
from pipeline.records.early_end import EarlyEnd
from pipeline.records.view import Silent
from workers.listening import listened as module
from workers.listening.hooks import Hooks
from workers.listening.listened import Listened, listened
from workers.listening.outlet import Outlet


class Noted(Silent):
    def __init__(self):
        self.calls = []

    def __getattribute__(self, name):
        if name in ("calls", "early_end") or name.startswith("_"):
            return super().__getattribute__(name)
        return lambda *args: self.calls.append((name, *args))


def silent(*_):
    return Silent()


def made(tmp_path, **hooks):
    return listened(silent, [], Hooks(**hooks))(resolved(), placed(), tmp_path)


def test_nobody_who_listens_is_no_other_view():
    assert listened(silent) is silent


def test_the_view_is_told_all_that_it_would_be():
    view = Noted()
    both = Listened(view, [])
    both.planned(parallel(0))
    both.started()
    both.progress(report(0, 0, 0, 64))
    both.epoch(parallel(0), [])
    both.row('{"event": "epoch"}')
    both.finished({"status": "completed"})
    both.close()
    assert [call[0] for call in view.calls] == ["planned", "started", "progress", "epoch", "row", "finished", "close"]
    assert view.calls[4] == ("row", '{"event": "epoch"}')


@pytest.mark.parametrize("hooks", [{"on_end": print}, {"on_epoch": print}])
def test_a_view_that_may_end_the_run_may_so_when_others_listen(tmp_path, hooks):
    """And who else asks for the end asks in the same place: the run looks at one."""
    shown = Silent()
    shown.early_end = EarlyEnd(7)
    view = listened(lambda *_: shown, [], Hooks(**hooks))(resolved(), placed(), tmp_path)
    view.close()
    assert view.early_end is shown.early_end


def test_a_hook_that_stops_the_run_asks_where_the_view_does(tmp_path):
    def stop(news):
        raise Stop("enough")

    shown = Silent()
    shown.early_end = EarlyEnd(7)
    view = listened(lambda *_: shown, [], Hooks(on_step=stop))(resolved(), placed(), tmp_path)
    view.progress(report(0, 0, 0, 64))
    view.close()
    assert shown.early_end.reason == "on_step: enough"


def test_rows_and_news_are_given_to_who_asked_for_them(tmp_path):
    steps, ends = [], []
    view = made(tmp_path, on_step=steps.append, on_end=ends.append)
    view.progress({**report(1, 2, 3, 64), "checked": 3})
    view.finished({"status": "completed", "epochs": 1, "loss": float("nan")})
    view.close()
    assert steps == [report(1, 2, 3, 64)]  # and nothing of its own accounts
    assert ends == [{"status": "completed", "epochs": 1, "loss": None}]


def test_only_who_may_stop_a_run_makes_plans_late(tmp_path):
    both = made(tmp_path, on_epoch=print), made(tmp_path, on_end=print)
    for view in both:
        view.close()
    assert both[0].early_end.ahead == 2 and both[1].early_end is None


def test_short_epochs_of_many_stages_are_planned_further_ahead(tmp_path):
    view = listened(silent, [], Hooks(on_epoch=print))(resolved(), placed((1, 1, 1, 1)), tmp_path)
    view.close()
    assert view.early_end.ahead == 2 + 4 * (4 + 2) // 23  # stages, depth of queues and what both ends hold; steps


@pytest.fixture
def stuck():
    """An outlet whose consumer waits for the end of the test."""
    over = threading.Event()
    yield Outlet("logger slow", lambda items: over.wait(60) and list(items))
    over.set()


def test_who_is_slow_at_the_end_is_named_and_then_left_behind(stuck, monkeypatch, caplog):
    monkeypatch.setattr(module, "PATIENCE_S", 0.1)
    monkeypatch.setattr(module, "_SILENCE_S", 0.05)
    view = Listened(Silent(), [stuck])
    view.row(json.dumps({"event": "snapshot"}))
    view.finished({"status": "completed"})
    view.close()
    assert caplog.messages == [
        "the run is over; waiting up to 0 s for the logger slow (Ctrl-C ends the waiting)",
        "the logger slow is not waited for any longer: it had not taken 2 of what it was told",
    ]


def test_an_interrupt_ends_the_waiting_and_no_more(stuck, monkeypatch, caplog):
    def interrupted(self, seconds):
        if seconds > 0:
            raise KeyboardInterrupt
        return True

    monkeypatch.setattr(Outlet, "is_busy", interrupted)
    Listened(Silent(), [stuck]).close()
    assert caplog.messages == ["the logger slow is not waited for any longer: it had not taken 0 of what it was told"]
