from itertools import pairwise

import pytest

from pipeline.records import time_budget
from pipeline.records.chrome_trace import StageTrace, chrome_events, overlap_seconds
from pipeline.records.time_budget import Activity
from pipeline.records.traced_budget import TracedBudget
from pipeline.schedules.position import EVALUATION, NOWHERE, Position


class Clock:
    """Seconds that pass when they are told to."""

    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    found = Clock()
    monkeypatch.setattr(time_budget.time, "perf_counter", found)
    return found


def trace_of(budget, stage=0, blocks=range(2), zero_s=100.0):
    return StageTrace(stage, 2, blocks, 4242, "here", zero_s, "clock", budget.recording())


def spend(clock, budget, activity, seconds):
    budget.enter(activity)
    clock.now += seconds


def transfer(clock, budget, seconds, waited, wait, peer):
    spend(clock, budget, Activity.TRANSFER, seconds)
    budget.end_transfer(waited, wait, peer)


def pair(clock):
    """Stage 0 sends twice, stage 1 waits for the first and finds the second."""
    first, second = TracedBudget(), TracedBudget()
    transfer(clock, first, 1.0, 0.25, Activity.WAIT_SEND, 1)
    transfer(clock, first, 1.0, 0.0, Activity.WAIT_SEND, 1)
    clock.now = 100.0
    transfer(clock, second, 2.0, 1.5, Activity.WAIT_RECV, 0)
    transfer(clock, second, 1.0, 0.0, Activity.WAIT_RECV, 0)
    return [trace_of(first), trace_of(second, 1, range(2, 5))]


def of_phase(events, phase):
    return [e for e in events if e["ph"] == phase]


def test_a_process_row_and_a_thread_row_per_stage(clock):
    rows = of_phase(chrome_events(pair(clock)), "M")
    names = {(r["pid"], r["name"]): r["args"] for r in rows}
    assert names[1, "process_name"] == {
        "name": "stage 0 (blocks 0-1)", "stage": 0, "os_pid": 4242, "host": "here",
    }  # fmt: skip
    assert names[2, "process_name"]["name"] == "stage 1 (blocks 2-4)"
    assert names[2, "process_sort_index"] == {"sort_index": 1}
    assert names[2, "thread_name"] == {"name": "activity"}
    assert all(r["pid"] == r["tid"] for r in rows)


def test_slices_in_microseconds_since_the_origin_without_overlap(clock):
    budget = TracedBudget()
    clock.now += 0.001
    spend(clock, budget, Activity.FORWARD, 1 / 3)
    spend(clock, budget, Activity.LEARN, 0.0)
    spend(clock, budget, Activity.EVAL, 1e-6)
    budget.read()
    slices = of_phase(chrome_events([trace_of(budget, zero_s=99.5)]), "X")
    assert [(s["name"], s["ts"]) for s in slices] == [
        ("other", 500000.0), ("forward", 501000.0), ("eval", 834333.333),
    ]  # fmt: skip
    assert [s["dur"] for s in slices] == pytest.approx([1000.0 - 1e-3, 333333.332, 1.0 - 1e-3], abs=1.1e-3)
    # As a reader does that multiplies and cuts off.
    ns = [(int(s["ts"] * 1000.0), int(s["dur"] * 1000.0)) for s in slices]
    assert all(ts + dur <= following for (ts, dur), (following, _) in pairwise(ns))


def test_slices_say_where_the_stage_was_and_with_whom(clock):
    budget = TracedBudget()
    budget.at(Position(3, 70, 1))
    transfer(clock, budget, 1.0, 0.5, Activity.WAIT_RECV, 2)
    spend(clock, budget, Activity.FORWARD, 1.0)
    budget.at(Position(3, 5, EVALUATION))
    spend(clock, budget, Activity.EVAL, 1.0)
    transfer(clock, budget, 1.0, 0.0, Activity.WAIT_SEND, 1)
    budget.at(NOWHERE)
    spend(clock, budget, Activity.OTHER, 1.0)
    budget.read()
    where = {"epoch": 3, "step": 70, "microbatch": 1}
    tested = {"epoch": 3, "test_batch": 5}
    assert [(s["name"], s["args"]) for s in of_phase(chrome_events([trace_of(budget)]), "X")] == [
        ("wait_recv", where), ("transfer", {**where, "from": 2}), ("forward", where), ("eval", tested),
        ("transfer", {**tested, "to": 1}), ("other", {}),
    ]  # fmt: skip


def test_arrows_lead_from_copying_in_to_copying_out(clock):
    events = list(chrome_events(pair(clock)))
    starts, ends = of_phase(events, "s"), of_phase(events, "f")
    assert [(s["id"], s["pid"], s["ts"]) for s in starts] == [(0, 1, 250000.0), (1, 1, 1e6)]
    assert [(f["id"], f["pid"], f["bp"]) for f in ends] == [(0, 2, "e"), (1, 2, "e")]
    for flow in starts + ends:
        inside = [
            e["name"] for e in of_phase(events, "X")
            if e["pid"] == flow["pid"] and e["ts"] <= flow["ts"] <= e["ts"] + e["dur"]
        ]  # fmt: skip
        assert inside == ["transfer"]


def test_a_message_without_its_other_end_has_no_arrow(clock):
    sender, receiver = pair(clock)
    assert of_phase(chrome_events([sender]), "s") == []
    assert of_phase(chrome_events([receiver]), "f") == []
    budget = TracedBudget()
    transfer(clock, budget, 1.0, 0.0, Activity.WAIT_RECV, 0)
    events = list(chrome_events([sender, trace_of(budget, 1)]))
    assert len(of_phase(events, "s")) == len(of_phase(events, "f")) == 1


def test_messages_under_way_are_counted(clock):
    counts = of_phase(chrome_events(pair(clock)), "C")
    assert {c["name"] for c in counts} == {"messages 0 to 1"} and {c["pid"] for c in counts} == {2}
    assert [(round(c["ts"]), c["args"]["count"]) for c in counts] == [
        (250000, 1), (1000000, 2), (2000000, 1), (3000000, 0),
    ]  # fmt: skip


def slices(stage, *spans, name="learn"):
    return [
        {"ph": "X", "pid": stage + 1, "name": name, "ts": 1e6 * start, "dur": 1e6 * (end - start)}
        for start, end in spans
    ]


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        ([(0, 10)], [(1, 2), (4, 6), (9, 12)], 4.0), ([(1, 2), (4, 6), (9, 12)], [(0, 10)], 4.0),
        ([(0, 1), (2, 3)], [(1, 2), (3, 4)], 0.0), ([(5, 6), (0, 4)], [(3, 6)], 2.0), ([], [(0, 1)], 0.0),
        ([(0, 4), (4, 8)], [(1, 5), (5, 7)], 6.0),
    ],
)  # fmt: skip
def test_seconds_of_overlap(ours, theirs, expected):
    others = [*slices(0, (0, 9), name="forward"), {"ph": "C", "pid": 1, "name": "learn", "ts": 0.0}]
    trace = {"traceEvents": [*slices(0, *ours), *slices(2, *theirs), *slices(1, (0, 99)), *others]}
    assert overlap_seconds(trace, 0, 2, Activity.LEARN) == expected
