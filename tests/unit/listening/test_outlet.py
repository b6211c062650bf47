"""What is given to an outlet is consumed in order, beside; too much of it is dropped, and said."""

import threading
import time

import pytest

from workers.listening import outlet as module
from workers.listening.outlet import Outlet


@pytest.fixture
def gate():
    """A consumer that takes one item and then waits for an event; what it has taken."""
    opened, taken, waits = threading.Event(), [], threading.Event()

    def consume(items):
        for item in items:
            taken.append(item)
            waits.set()
            assert opened.wait(30)

    consume.opened, consume.taken, consume.waits = opened, taken, waits
    yield consume
    opened.set()


def ended(outlet, within=30):
    outlet.end()
    outlet.join(time.monotonic() + within)


def test_items_are_consumed_in_order_and_the_end_is_waited_for():
    taken = []
    outlet = Outlet("logger mine", taken.extend)
    for k in range(100):
        outlet.give(f"{k}")
    ended(outlet)
    assert taken == [f"{k}" for k in range(100)]


def test_news_are_dropped_where_too_much_waits_and_rows_are_not(gate, monkeypatch, caplog):
    monkeypatch.setattr(module, "MOST_STEPS", 3)
    outlet = Outlet("hook", gate)
    outlet.give("first")
    assert gate.waits.wait(30)
    for k in range(5):
        outlet.give({"step": k})
    outlet.give("row")
    gate.opened.set()
    ended(outlet)
    assert gate.taken == ["first", {"step": 0}, {"step": 1}, {"step": 2}, "row"]
    assert caplog.messages == ["the hook was slower than the run: 2 steps were not told to it"]


def test_rows_have_a_limit_too(gate, monkeypatch, caplog):
    monkeypatch.setattr(module, "MOST_ROWS", 1)
    outlet = Outlet("logger mine", gate)
    outlet.give("first")
    assert gate.waits.wait(30)
    for text in ("second", "third", "fourth"):
        outlet.give(text)
    gate.opened.set()
    ended(outlet)
    assert gate.taken == ["first", "second"]
    assert caplog.messages == ["the logger mine was slower than the run: 2 rows were not told to it"]


@pytest.mark.parametrize("error", [OSError("disk"), SystemExit(3), KeyboardInterrupt()])
def test_what_a_consumer_raises_is_told_once_and_it_is_left_alone(caplog, error):
    raised = threading.Event()

    def consume(items):
        next(items)
        raised.set()
        raise error

    outlet = Outlet("logger mine", consume)
    outlet.give("one")
    assert raised.wait(30)
    ended(outlet)
    outlet.give("two")
    (text,) = caplog.messages
    assert text.startswith(
        f"the logger mine has failed and is told nothing more; training goes on ({type(error).__name__}: "
    )


def test_a_consumer_that_does_not_end_is_left_behind(gate, caplog):
    outlet = Outlet("hook", gate)
    for text in ("one", "two", "three"):
        outlet.give(text)
    assert gate.waits.wait(30)
    ended(outlet, within=0.05)
    assert caplog.messages == ["the hook is not waited for any longer: it had not taken 2 of what it was told"]
    gate.opened.set()
    outlet._thread.join(30)
    assert gate.taken == ["one"]  # and not what came behind


def test_a_quiet_run_is_waited_for(monkeypatch):
    monkeypatch.setattr(module, "_LOOK_S", 0.01)
    taken = []
    outlet = Outlet("hook", taken.extend)
    threading.Event().wait(0.05)
    outlet.give("late")
    ended(outlet)
    assert taken == ["late"]


def test_the_end_of_the_process_ends_a_consumer(monkeypatch):
    monkeypatch.setattr(module, "_LOOK_S", 0.01)
    monkeypatch.setattr(module.threading, "main_thread", lambda: threading.Thread())  # one that does not run
    outlet = Outlet("hook", list)
    outlet._thread.join(30)
    assert not outlet._thread.is_alive()
