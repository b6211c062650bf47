"""Loggers of other packages, on modules that stand in for them: what is called, in which order and with what.

Where a package is installed, its own files are read back as well.
"""

import importlib
import sys
from types import ModuleType, SimpleNamespace

import pytest

from workers.listening.epochs import LoggedRun, LogRow

ROWS = [LogRow("epoch", 3, {"test_loss": 0.5}), LogRow("epoch", 4, {"test_loss": 0.25}),
        LogRow("result", 5, {"wall_s": 2.0})]  # fmt: skip


class Noted:
    """Remembers every call of every method; ``with`` included."""

    def __init__(self, calls):
        self._calls = calls

    def __getattr__(self, name):
        return lambda *args, **named: self._calls.append((name, *args, named) if named else (name, *args))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._calls.append(("closed",))


@pytest.fixture
def logger(monkeypatch):
    """Imports a logger over a module that stands in; its ``build``, gone again behind the test."""

    def imported(name, module=None, **members):
        stand_in = ModuleType(module or name)
        vars(stand_in).update(members)
        monkeypatch.setitem(sys.modules, module or name, stand_in)
        monkeypatch.delitem(sys.modules, f"workers.loggers.{name}", raising=False)
        importlib.import_module(f"workers.loggers.{name}")
        return sys.modules.pop(f"workers.loggers.{name}").build

    return imported


def write(build, folder, rows):
    (folder / "run").mkdir()
    build(LoggedRun(folder / "run", {"seed": 1}, 1, 1), iter(rows))


def tensorboard(logger, calls):
    def opened(folder, purge_step):
        calls.append((folder, purge_step))
        return Noted(calls)

    return logger("tensorboard", "torch.utils.tensorboard", SummaryWriter=opened)


def test_tensorboard_gets_scalars_at_their_epochs(logger, tmp_path):
    calls = []
    write(tensorboard(logger, calls), tmp_path, ROWS)
    assert calls == [
        (str(tmp_path / "run" / "tensorboard"), 3), ("add_scalar", "test_loss", 0.5, 3), ("flush",),
        ("add_scalar", "test_loss", 0.25, 4), ("flush",), ("add_scalar", "result/wall_s", 2.0, 5), ("flush",),
        ("closed",),
    ]  # fmt: skip


def test_tensorboard_gets_no_file_of_a_run_without_rows(logger, tmp_path):
    calls = []
    write(tensorboard(logger, calls), tmp_path, [])
    assert calls == []


def wandb(logger, calls, is_logged_in=True):
    def init(**named):
        calls.append(("init", named.pop("project"), named.pop("config")))
        assert named["settings"] == {"console": "off", "quiet": True}
        log = Noted(calls)
        log.summary = SimpleNamespace(update=lambda numbers: calls.append(("summary", numbers)))
        return log

    return logger("wandb", init=init, login=lambda prompt: is_logged_in and not prompt, Settings=dict)


def test_wandb_gets_epochs_and_a_summary(logger, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    calls = []
    write(wandb(logger, calls, is_logged_in=False), tmp_path, ROWS)
    assert calls == [
        ("init", "mine", {"seed": 1}), ("define_metric", "*", {"step_metric": "epoch"}),
        ("log", {"epoch": 3, "test_loss": 0.5}), ("log", {"epoch": 4, "test_loss": 0.25}),
        ("summary", {"result/wall_s": 2.0}), ("finish", {"exit_code": 0}),
    ]  # fmt: skip


def test_wandb_is_told_of_a_failure(logger, tmp_path, monkeypatch):
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    calls = []
    write(wandb(logger, calls), tmp_path, [LogRow("failure", 0)])
    assert calls[0][1] == "onward" and calls[-1] == ("finish", {"exit_code": 1})


def test_wandb_asks_for_no_key(logger, tmp_path, monkeypatch):
    monkeypatch.delenv("WANDB_MODE", raising=False)
    with pytest.raises(RuntimeError, match="nobody is logged in. Run wandb login, or set WANDB_MODE=offline"):
        write(wandb(logger, [], is_logged_in=False), tmp_path, ROWS)


def test_trackio_gets_epochs_and_the_result(logger, tmp_path):
    calls = []

    def init(**named):
        calls.append(named)
        return Noted(calls)

    write(logger("trackio", init=init), tmp_path, [*ROWS, LogRow("failure", 5)])
    assert calls == [
        {"project": "onward", "name": "run", "config": {"seed": 1}}, ("log", {"test_loss": 0.5}, {"step": 3}),
        ("log", {"test_loss": 0.25}, {"step": 4}), ("log", {"result/wall_s": 2.0}, {"step": 5}), ("finish",),
    ]  # fmt: skip


def test_tensorboard_reads_what_was_written(tmp_path):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    write(importlib.import_module("workers.loggers.tensorboard").build, tmp_path, ROWS)
    found = EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    assert [(e.step, e.value) for e in found.Scalars("test_loss")] == [(3, 0.5), (4, 0.25)]
    assert [(e.step, e.value) for e in found.Scalars("result/wall_s")] == [(5, 2.0)]
