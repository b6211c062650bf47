import pickle

import pytest

from pipeline.records import time_budget
from pipeline.records.time_budget import Activity, TimeBudget
from pipeline.records.traced_budget import TracedBudget
from pipeline.schedules.position import NOWHERE, Position


@pytest.fixture
def clock(monkeypatch):
    """A clock that moves by a second at every reading."""
    now = iter(range(100, 10000))
    monkeypatch.setattr(time_budget.time, "perf_counter", lambda: float(next(now)))


def found(budget):
    """Intervals as (start, end, name)."""
    return [(start, end, activity.value) for start, end, activity in budget.recording().intervals()]


def marks(budget):
    flat = list(budget.recording().marks)
    return [tuple(flat[i : i + 4]) for i in range(0, len(flat), 4)]


def test_every_interval_ends_where_the_next_begins(clock):
    budget = TracedBudget()
    assert budget.enter(Activity.FORWARD) is Activity.OTHER
    budget.enter(Activity.LEARN)
    budget.read()
    assert found(budget) == [
        (100, 101, "other"), (101, 102, "forward"), (102, 103, "learn"), (103, 103, "learn"),
    ]  # fmt: skip


def test_a_wait_inside_a_transfer_becomes_an_interval_before_it(clock):
    budget = TracedBudget()
    budget.enter(Activity.TRANSFER)
    budget.end_transfer(0.75, Activity.WAIT_RECV, 3)
    budget.enter(Activity.TRANSFER)
    budget.end_transfer(0.0, Activity.WAIT_SEND, 4)
    assert found(budget) == [
        (100, 101, "other"), (101, 101.75, "wait_recv"), (101.75, 102, "transfer"), (102, 103, "other"),
        (103, 104, "transfer"), (104, 104, "other"),
    ]  # fmt: skip
    assert list(budget.recording().flows) == [2, 3, 0, 4, 4, 1]


def test_it_books_what_the_plain_budget_books(clock, monkeypatch):
    def book(budget):
        budget.enter(Activity.FORWARD)
        budget.enter(Activity.TRANSFER)
        budget.end_transfer(0.25, Activity.WAIT_SEND, 1)
        budget.restart()
        budget.enter(Activity.TRANSFER)
        budget.end_transfer(0.5, Activity.WAIT_RECV, 1)
        return budget.read()

    traced = TracedBudget()
    table = book(traced)
    assert table == book(TimeBudget())
    sums = {}
    for start, end, name in found(traced):
        if start >= traced._start:
            sums[name] = sums.get(name, 0.0) + end - start
    assert {name: table[f"{name}_s"] for name in sums} == sums
    assert sum(sums.values()) == table["wall_s"]


def test_what_came_before_a_restart_stays(clock):
    budget = TracedBudget()
    budget.enter(Activity.WAIT_RECV)
    budget.restart()
    assert found(budget) == [(100, 101, "other"), (101, 102, "wait_recv"), (102, 102, "wait_recv")]


def test_a_mark_belongs_to_the_intervals_that_begin_after_it(clock):
    budget = TracedBudget()
    for step in (7, 8):
        budget.at(Position(0, step))
        budget.enter(Activity.FORWARD)
        if step == 7:
            budget.enter(Activity.LEARN)
    budget.at(NOWHERE)
    budget.enter(Activity.OTHER)
    assert marks(budget) == [(1, 0, 7, 0), (3, 0, 8, 0), (4, -1, -1, -1)]


def test_recording_stops_at_the_limit_and_the_budget_goes_on(clock):
    budget = TracedBudget(limit=3)
    for step in range(50):
        budget.at(Position(0, step))
        budget.enter(Activity.TRANSFER)
        budget.end_transfer(0.5, Activity.WAIT_RECV, 0)
    recording = budget.recording()
    assert recording.is_full and not TracedBudget().recording().is_full
    assert found(budget) == [(100, 101, "other"), (101, 101.5, "wait_recv"), (101.5, 102, "transfer")]
    assert list(recording.flows) == [2, 0, 0] and marks(budget) == [(1, 0, 0, 0)]
    assert budget.read()["wait_recv_s"] == 25.0


def test_a_recording_can_be_pickled(clock):
    budget = TracedBudget()
    budget.enter(Activity.EVAL)
    recording = budget.recording()
    assert pickle.loads(pickle.dumps(recording)) == recording
