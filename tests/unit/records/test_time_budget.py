import sys

import psutil
import pytest
import torch
from torch import nn

from pipeline.records import time_budget
from pipeline.records.time_budget import Activity, TimeBudget, module_bytes, peak_device_bytes, peak_rss_bytes
from pipeline.schedules.position import EVALUATION, Position


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands until it is moved; binary fractions, so that sums are exact."""

    class Clock:
        now = 100.0

        def __call__(self):
            return self.now

    found = Clock()
    monkeypatch.setattr(time_budget.time, "perf_counter", found)
    return found


def test_every_second_is_booked_once(clock):
    budget = TimeBudget()
    clock.now += 0.25
    assert budget.enter(Activity.FORWARD) is Activity.OTHER
    clock.now += 1.0
    assert budget.enter(Activity.TRANSFER) is Activity.FORWARD
    clock.now += 4.0
    budget.end_transfer(3.5, Activity.WAIT_RECV, 0)
    budget.enter(Activity.LEARN)
    clock.now += 2.0
    assert budget.read() == {
        "forward_s": 1.0, "learn_s": 2.0, "wait_recv_s": 3.5, "wait_send_s": 0.0, "transfer_s": 0.5, "eval_s": 0.0,
        "other_s": 0.25, "wall_s": 7.25,
    }  # fmt: skip


def test_reading_goes_on_with_the_same_activity(clock):
    budget = TimeBudget()
    budget.enter(Activity.EVAL)
    for wall in (1.0, 2.0, 3.0):
        clock.now += 1.0
        table = budget.read()
        assert (table["eval_s"], table["wall_s"]) == (wall, wall)


def test_a_restart_forgets_what_was_booked(clock):
    budget = TimeBudget()
    clock.now += 8.0
    budget.enter(Activity.EVAL)
    clock.now += 4.0
    budget.restart()
    clock.now += 0.5
    assert budget.read() == {**dict.fromkeys(budget.read(), 0.0), "eval_s": 0.5, "wall_s": 0.5}


def test_positions_are_all_that_a_budget_without_a_trace_notes():
    budget = TimeBudget()
    before = dict(vars(budget))
    budget.at(Position(0, 1, 0))
    assert vars(budget) == {**before, "_position": Position(0, 1, 0)}


def test_a_pulse_says_what_is_done_and_changes_nothing(clock):
    budget = TimeBudget()
    assert budget.pulse() == {"activity": "other", "seconds": 0.0, "epoch": -1, "step": -1, "evaluates": False}
    budget.at(Position(2, 417, 1))
    budget.enter(Activity.LEARN)
    clock.now += 40.0
    pulse = {"activity": "learn", "seconds": 40.0, "epoch": 2, "step": 417, "evaluates": False}
    assert budget.pulse() == budget.pulse() == pulse
    budget.at(Position(2, 3, EVALUATION))
    assert budget.pulse() == {**pulse, "step": 3, "evaluates": True}
    assert budget.read()["learn_s"] == 40.0


def test_the_budget_adds_up_to_the_wall_time():
    budget = TimeBudget()
    for activity in list(Activity) * 50:
        budget.enter(Activity.TRANSFER)
        budget.end_transfer(0.001, Activity.WAIT_SEND, 1)
        budget.enter(activity)
    table = budget.read()
    assert sum(table.values()) - table["wall_s"] == pytest.approx(table["wall_s"], abs=1e-9)


def test_peak_memory_of_this_process_in_bytes(monkeypatch):
    used = psutil.Process().memory_info().rss
    assert used / 2 < peak_rss_bytes() < psutil.virtual_memory().total
    in_kib = peak_rss_bytes()
    monkeypatch.setattr(sys, "platform", "darwin")  # which counts in bytes, not KiB
    assert peak_rss_bytes() == pytest.approx(in_kib / 1024, rel=0.1)


def test_peak_memory_of_a_device(monkeypatch):
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 7 + device.index)
    assert peak_device_bytes(torch.device("cpu")) is None
    assert peak_device_bytes(torch.device("cuda:1")) == 8


def test_parameters_and_buffers_in_bytes():
    norm = nn.BatchNorm1d(5)  # 10 parameters, 10 running statistics, a counter of 8 bytes
    assert module_bytes([nn.Linear(3, 4).double(), norm]) == (3 * 4 + 4) * 8 + 20 * 4 + 8
    assert module_bytes([]) == 0
