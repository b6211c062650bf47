"""The user's hooks: what they are given, what they may raise, and what is said of it."""

import json

import onward
import pytest

from pipeline.errors import ConfigError
from pipeline.records.early_end import EarlyEnd
from workers.listening.epochs import LoggedRun
from workers.listening.hooks import Hooks

ITEMS = [{"step": 1}, {"step": 2}, json.dumps({"event": "finished", "status": "completed", "epochs": 1})]


def called(hooks, tmp_path, items=ITEMS):
    early_end = EarlyEnd(2)
    hooks.call(iter(items), LoggedRun(tmp_path, {}, 1, 1), early_end)
    return early_end.reason


def raising(error, calls):
    def hook(row):
        calls.append(row)
        raise error

    return hook


def test_each_hook_is_given_its_own(tmp_path):
    steps, ends = [], []
    assert called(Hooks(on_step=steps.append, on_end=ends.append), tmp_path) is None
    assert steps == [{"step": 1}, {"step": 2}] and ends == [{"status": "completed", "epochs": 1}]
    assert Hooks(on_end=print) and not Hooks()


@pytest.mark.parametrize("error", [KeyError("loss"), SystemExit(1)])
def test_what_a_hook_raises_is_told_the_first_time_and_counted(tmp_path, caplog, error):
    calls, ends = [], []
    assert called(Hooks(on_step=raising(error, calls), on_end=ends.append), tmp_path) is None
    assert len(calls) == 2 and len(ends) == 1
    told, counted = caplog.records
    assert told.message == (
        f"the hook on_step has raised; training goes on, and so do its calls ({type(error).__name__}: {error})"
    )
    assert told.exc_info[1] is error and counted.message == "the hook on_step has raised 2 times"


def test_stop_asks_for_the_end_the_first_time(tmp_path, caplog):
    errors = iter([onward.Stop("good enough"), onward.Stop("again")])

    def hook(row):
        raise next(errors)

    assert called(Hooks(on_step=hook), tmp_path) == "on_step: good enough" and caplog.messages == []
    assert called(Hooks(on_end=raising(onward.Stop(), [])), tmp_path) == "on_end: Stop"


def test_what_cannot_be_called_is_refused():
    with pytest.raises(ConfigError, match="a hook is a function of one table .given: on_epoch=3, expected: e.g. on_e"):
        Hooks(on_epoch=3)
