"""What rank 0's two threads tell each other when something fails."""

import threading

import pytest

from pipeline.errors import WorkerFailed
from workers import coordination as module


class Coordinates:
    """A coordinator that ends when it is told to, in order or not."""

    looked = 0.0

    def __init__(self, error=None):
        self.error, self.go = error, threading.Event()

    def run(self):
        assert self.go.wait(20.0)
        if self.error is not None:
            raise self.error


FAILED = WorkerFailed(1, 3, "boom")


@pytest.fixture
def coordination(monkeypatch):
    monkeypatch.setattr(module, "_REPORT_S", 5.0)
    monkeypatch.setattr(module.signal, "signal", lambda *_: None)
    interrupts = []
    monkeypatch.setattr(module.signal, "pthread_kill", lambda *_: interrupts.append(1))
    started = []

    def start(coordinator, give_up=lambda error: None):
        started.append(coordinator)
        found = module.Coordination(coordinator, give_up)
        found.start()
        return found

    yield start
    for coordinator in started:
        coordinator.go.set()


def test_an_orderly_end(coordination):
    coordinator = Coordinates()
    both = coordination(coordinator)
    coordinator.go.set()
    both.join(20.0, 3)
    assert both._failure is None


def test_the_coordinators_failure_is_the_cause(coordination):
    coordinator = Coordinates(FAILED)
    both = coordination(coordinator)
    coordinator.go.set()
    assert both.cause(RuntimeError("a neighbour is gone")) is FAILED


def test_without_one_the_stages_own_error_is(coordination):
    coordinator = Coordinates()
    both = coordination(coordinator)
    coordinator.go.set()
    error = RuntimeError("mine")
    assert both.cause(error) is error


def test_the_users_interrupt_is_the_users(coordination):
    both = coordination(Coordinates())
    interrupt = KeyboardInterrupt()
    assert both.cause(interrupt) is interrupt


def test_stages_that_fail_after_this_one_has_ended(coordination):
    coordinator = Coordinates(FAILED)
    both = coordination(coordinator)
    both._interrupted.set()
    coordinator.go.set()
    with pytest.raises(WorkerFailed, match=r"\[stage 1/3\] boom"):
        both.join(20.0, 3)


def test_a_coordinator_that_does_not_look(coordination):
    both = coordination(Coordinates())
    text = r"\[stage 0/3\] its coordinator has not looked after the other stages for 0 s \(run\.timeout_s\): a disk or"
    with pytest.raises(WorkerFailed, match=text):
        both.join(0.01, 3)


def test_stages_may_take_any_time_as_long_as_they_are_looked_after(coordination, monkeypatch):
    """More looks than fit into the time that one may take: then the coordinator ends."""
    monkeypatch.setattr(module, "_LOOK_AGAIN_S", 0.001)

    class Looks(Coordinates):
        times = 0

        @property
        def looked(self):
            self.times += 1
            if self.times == 50:
                self.go.set()
            return self.times

    coordinator = Looks()
    both = coordination(coordinator)
    both.join(0.005, 3)
    assert coordinator.times >= 50 and not both._thread.is_alive()


def test_a_main_thread_that_does_not_hear_is_given_up(coordination, monkeypatch):
    monkeypatch.setattr(module, "_NOTICE_S", 0.01)
    given_up = []
    coordinator = Coordinates(FAILED)
    both = coordination(coordinator, given_up.append)
    coordinator.go.set()
    both._thread.join(20.0)
    assert given_up == [FAILED]


def test_an_interrupt_reaches_the_main_thread_once(coordination):
    both = coordination(Coordinates())
    with pytest.raises(KeyboardInterrupt):
        both._interrupt()
    both._noticed = True
    assert both._interrupt() is None
