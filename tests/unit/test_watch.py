"""Which stage is to blame, by what was heard of each and by what its process is found to be doing."""

from types import SimpleNamespace

import pytest

from workers import watch as module
from workers.watch import ELSEWHERE_S, StageWatch


class Process:
    """Stands in for what is known of one."""

    def __init__(self, is_here=True, is_stopped=False):
        self.pid, self.is_here, self.is_stopped = 17, is_here, is_stopped


def pulse(activity="learn", seconds=1.0, step=417, evaluates=False):
    return {"activity": activity, "seconds": seconds, "epoch": 3, "step": step, "evaluates": evaluates}


class Stages:
    """A watch over three stages, and the clock it reads."""

    def __init__(self, monkeypatch, processes=None, timeout_s=40.0, ready=True):
        self.now = 100.0
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: self.now))
        self.watch = StageWatch(3, timeout_s, 10 * timeout_s, processes or {s: Process() for s in range(3)})
        for stage in range(3 if ready else 0):
            self.watch.ready(stage)
            self.watch.beat(stage, pulse())

    def pass_(self, seconds, beating=(0, 1, 2), said=None):
        """Time goes by in steps of half a second; returns the first suspect."""
        for _ in range(int(2 * seconds)):
            self.now += 0.5
            for stage in beating:
                self.watch.beat(stage, said or pulse())
            found = self.watch.suspect(range(3))
            if found is not None:
                return found
        return None


@pytest.fixture
def stages(monkeypatch):
    return lambda *args, **kwargs: Stages(monkeypatch, *args, **kwargs)


def test_stages_that_beat_are_left_alone(stages):
    assert stages().pass_(3600) is None


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_a_stopped_stage_is_named_within_4_seconds(stages, stage):
    run = stages({s: Process(is_stopped=s == stage) for s in range(3)})
    found = run.pass_(4, beating={0, 1, 2} - {stage})
    assert found.stage == stage
    assert found.reason == (
        "its process was stopped by a signal (pid 17, SIGSTOP or the like). Before, it has been in learn of step 417 "
        "for 1 s. Send SIGCONT sooner, or stop the whole run."
    )


def test_a_stage_that_is_starved_is_not_accused_before_the_limit(stages):
    """Its beats need a core and the interpreter's lock, and on a busy machine have neither for a while."""
    run = stages()
    assert run.pass_(39, beating={0, 2}) is None
    found = run.pass_(3, beating={0, 2})
    assert found.stage == 1 and "native code may hold the interpreter's lock" in found.reason


def test_a_stage_elsewhere_is_lost_after_a_wider_limit(stages):
    run = stages({0: Process(), 1: Process(), 2: Process(is_here=False)})
    assert run.pass_(ELSEWHERE_S, beating={0, 1}) is None
    found = run.pass_(1, beating={0, 1})
    assert found.stage == 2 and "its host or the network between is gone" in found.reason


def test_a_stage_elsewhere_has_the_time_of_a_start_until_its_first_beat(stages):
    """It imports what its job needs, perhaps from a cold disk; a host that vanishes is found by the kernel."""
    run = stages({0: Process(), 1: Process(), 2: Process(is_here=False)}, ready=False)
    assert run.pass_(10 * ELSEWHERE_S, beating={0, 1}) is None
    run.watch.beat(2, None)
    assert run.pass_(ELSEWHERE_S, beating={0, 1}) is None
    assert run.pass_(1, beating={0, 1}).stage == 2


def test_a_coordinator_that_was_stopped_itself_accuses_nobody(stages):
    run = stages({s: Process(is_stopped=True) for s in range(3)})
    run.now += 3600.0
    assert run.watch.suspect(range(3)) is None
    assert run.pass_(2.5, beating=()) is None


@pytest.mark.parametrize(
    ("said", "text"),
    [
        (pulse(seconds=41.0), r"it has been in learn of step 417 for 41 s. (run.timeout_s: 40.) Raise it if one"),
        (pulse("eval", 41.0, 2, True), "it has been in eval of test batch 2 of epoch 3 for 41 s."),
        (pulse("other", 50.0, -1), "it has been in other for 50 s."),
    ],
)
def test_a_hang_is_named_with_where_it_is(stages, said, text):
    run = stages()
    assert run.pass_(60) is None
    run.watch.beat(1, said)
    found = run.watch.suspect(range(3))
    assert found.stage == 1 and found.reason.startswith(text)


@pytest.mark.parametrize("activity", ["wait_recv", "wait_send", "transfer"])
def test_waiting_for_another_stage_is_no_hang(stages, activity):
    run = stages()
    run.watch.beat(1, pulse(activity, 4000.0))
    assert run.watch.suspect(range(3)) is None


def test_a_slow_start_has_more_time(stages):
    run = stages(ready=False)
    said = pulse("other", 399.0, -1)
    run.watch.beat(0, said)
    assert run.watch.suspect([0]) is None
    run.watch.beat(0, {**said, "seconds": 401.0})
    found = run.watch.suspect([0])
    assert "reading its data or connecting, for 401 s" in found.reason
    assert "reading the data takes longer" in found.reason


def test_a_start_before_the_first_word_has_an_end(stages):
    run = stages(ready=False)
    found = run.pass_(402, beating=())
    assert found.stage == 0 and found.reason.startswith("nothing has been heard of it for 400 s;")
    assert found.reason.endswith("It was starting.")


def test_a_start_that_never_gets_to_its_job(stages):
    run = stages(ready=False)
    for _ in range(900):
        run.now += 0.5
        run.watch.beat(0, None)
        found = run.watch.suspect([0])
        if found:
            break
    assert found.reason.startswith("it has been starting for 400 s.")


def test_a_circle_of_waits_has_an_end(stages):
    run = stages()
    assert run.pass_(40, said=pulse("wait_recv", 1.0)) is None
    found = run.pass_(1, said=pulse("wait_recv", 1.0))
    assert found.stage == 0 and "for 40 s, and all of them wait" in found.reason


def test_news_of_one_stage_is_no_standstill(stages):
    run = stages()
    for _ in range(100):
        assert run.pass_(1, said=pulse("wait_recv", 1.0)) is None
        run.watch.hear(2)


def test_what_others_waited_for(stages):
    run = stages()
    assert run.watch.behind(range(3)) is None
    run.watch.beat(1, pulse("wait_recv", 39.0))
    run.watch.beat(2, pulse("learn", 39.0))
    assert run.watch.behind(range(3)).stage == 2
    stopped = stages({0: Process(), 1: Process(is_stopped=True)})
    assert "was stopped by a signal" in stopped.watch.behind([0, 1]).reason


def test_what_was_slow_before_all_were_ready_is_no_hang(stages):
    """Data took longer than any step may, and a beat that says so was still on its way."""
    run = stages(ready=False)
    reading = pulse("other", seconds=90.0, step=-1)
    assert run.pass_(90, said=reading) is None
    for stage in range(3):
        run.watch.ready(stage)
        run.watch.hear(stage)
    assert run.watch.suspect(range(3)) is None
    run.watch.beat(0, reading)
    assert run.watch.suspect(range(3)) is None
    assert run.pass_(39, said=reading) is None and run.pass_(3, said=reading).stage == 0
