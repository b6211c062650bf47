"""The pool of a sweep, and a command in a process of its own."""

import os
import signal
import sys
import time

import psutil
import pytest

from workers.sweep import child as module
from workers.sweep.child import Child, launch_command
from workers.sweep.pool import run_all


class Counted:
    """Ends at its third poll; counts what is told to it."""

    going = 0

    def __init__(self, name, log):
        self.name, self.log, self.polls = name, log, 0
        Counted.going += 1
        log.append(("start", name, Counted.going))

    def poll(self):
        self.polls += 1
        if self.name == "broken":
            raise OSError("no luck")
        if self.polls < 3:
            return None
        Counted.going -= 1
        return self.name.upper()

    def tell(self):
        self.log.append(("tell", self.name))

    def stop(self):
        self.log.append(("stop", self.name))


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr("workers.sweep.pool._PAUSE_S", 0.0)
    monkeypatch.setattr(Counted, "going", 0)


def test_so_many_at_once_in_their_order():
    log, found = [], []
    run_all(["a", "b", "c"], 2, lambda name: Counted(name, log), lambda job, end: found.append((job, end)))
    assert log == [("start", "a", 1), ("start", "b", 2), ("start", "c", 1)]
    assert found == [("a", "A"), ("b", "B"), ("c", "C")]


def test_where_it_ends_early_all_are_told_before_any_is_waited_for():
    log = []
    with pytest.raises(OSError, match="no luck"):
        run_all(["a", "broken", "c"], 3, lambda name: Counted(name, log), lambda job, end: None)
    assert [entry[:2] for entry in log[3:]] == [
        (deed, name) for deed in ("tell", "stop") for name in ("a", "broken", "c")
    ]  # fmt: skip


def test_a_signal_while_they_are_ended_waits_until_they_are():
    log = []

    class Slow(Counted):
        def stop(self):
            os.kill(os.getpid(), signal.SIGINT)
            super().stop()

    with pytest.raises(KeyboardInterrupt):
        run_all(["broken", "b"], 2, lambda name: Slow(name, log), lambda job, end: None)
    assert log[-2:] == [("stop", "broken"), ("stop", "b")]


def python(code, tmp_path):
    return Child([sys.executable, "-c", code], tmp_path / "stderr")


def ended(child, within=60.0):
    deadline = time.monotonic() + within
    while (status := child.poll()) is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return status


def test_a_command_says_why_it_ended(tmp_path):
    child = python("import sys; print('one', file=sys.stderr); sys.exit('two\\n\\n')", tmp_path)
    assert ended(child) == 1 and child.said() == "two" and child.elapsed_s > 0
    child.end()  # which is over
    quiet = python("", tmp_path)
    assert ended(quiet) == 0 and quiet.said() == ""


def test_one_that_does_not_end_when_told_is_killed_with_all_that_it_started(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_ENDING_S", 0.5)
    deaf = "import signal, sys, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True, file=sys.stderr)"
    inner = f"{deaf}; time.sleep(600)"
    code = f"import subprocess; {deaf}; subprocess.run([sys.executable, '-c', {inner!r}])"
    child = python(code, tmp_path)
    deadline = time.monotonic() + 60
    while (tmp_path / "stderr").read_text().count("up") < 2:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    family = [psutil.Process(child.pid), *psutil.Process(child.pid).children(recursive=True)]
    child.tell()
    child.end()
    assert len(family) == 2 and psutil.wait_procs(family, timeout=10.0)[1] == []


def test_a_run_is_the_launcher_of_this_code_and_its_options_are_its_own(tmp_path):
    child = Child(launch_command(["train.epoch=3"]), tmp_path / "stderr", tmp_path)
    assert ended(child) == 2 and child.said().startswith("launch.py: unknown key (given: train.epoch")
