import pytest
from tests.support.run_doubles import block_row, epoch_body, result_body, run_state_of

from pipeline.records import run_state as module
from pipeline.records.early_end import EarlyEnd
from pipeline.schedules.schedule import EpochResult, Parallel, Sequential
from pipeline.schedules.selection import Selecting


@pytest.fixture
def clock(monkeypatch):
    times = iter(range(10, 100, 10))
    monkeypatch.setattr(module.time, "perf_counter", lambda: float(next(times)))


def test_plans_that_depend_on_nothing_are_known_at_once():
    schedule = Parallel(2, epochs=3)
    run_state, notes = run_state_of(schedule, 2, 2)
    assert run_state.new_plans() == [(epoch, schedule.plan(epoch, ())) for epoch in range(3)] + [(3, None)]
    assert run_state.new_plans() == []
    assert notes == [("planned", 0), ("planned", 1), ("planned", 2)]


def test_plans_that_depend_on_results_come_one_by_one():
    schedule = Sequential(2, epochs=1)
    run_state, notes = run_state_of(schedule, 1, 2)
    assert run_state.new_plans() == [(0, schedule.plan(0, []))]
    assert run_state.new_plans() == []
    run_state.epoch(epoch_body(0, 0, block_row(0, loss=0.5)))
    (found,) = run_state.new_plans()
    assert found == (1, schedule.plan(1, run_state.history))
    assert run_state.new_plans() == []
    run_state.epoch(epoch_body(1, 0, block_row(0), block_row(1, loss=0.25)))
    assert run_state.new_plans() == [(2, None)]
    assert run_state.new_plans() == []
    assert [n for n in notes if n[0] == "planned"] == [("planned", 0), ("planned", 1)]


def scored(block, accuracy):
    return {**block_row(block), "validation_accuracy": accuracy, "validation_loss": 1.0}


def test_plans_that_choose_an_epoch_lag_an_epoch_behind_its_scores():
    schedule = Selecting(Parallel(1, epochs=9), 1, 9, 1)
    run_state, notes = run_state_of(schedule, 1, 1)
    assert [epoch for epoch, _ in run_state.new_plans()] == [0, 1]
    for epoch, accuracy in enumerate([0.5, 0.25]):
        run_state.epoch(epoch_body(epoch, 0, scored(0, accuracy)))
        assert [number for number, _ in run_state.new_plans()] == ([2] if epoch == 0 else [])
    assert run_state.last_scores == {}  # of the test set
    run_state.epoch(epoch_body(2, 0, scored(0, 0.25)))
    (last, end) = run_state.new_plans()
    assert (last[0], last[1].scores_test, last[1].choice.best, end) == (3, True, 0, (4, None))
    run_state.epoch({**epoch_body(3, 0, block_row(0, None, 0.75)), "scores_test": True})
    assert len(run_state.history) == 3 and run_state.last_scores == {0: block_row(0, None, 0.75)}
    assert [n for n in notes if n[0] == "row"] == [("row", "epoch")] * 3 + [("row", "test")]
    assert run_state.selection(4, 1)["epoch"] == 0


def test_an_epoch_is_over_when_every_stage_has_reported():
    run_state, notes = run_state_of(Parallel(3, epochs=2), 2, 3)
    plans = [plan for _, plan in run_state.new_plans()]
    notes.clear()
    run_state.epoch(epoch_body(0, 1, block_row(2, 0.25, 0.5)))
    run_state.epoch(epoch_body(1, 1, block_row(2, 0.125, 0.75)))  # stage 1 is ahead
    assert run_state.history == []
    run_state.epoch(epoch_body(0, 0, block_row(0, 1.0), block_row(1, 2.0, 0.5)))
    assert run_state.history == [EpochResult(plans[0], (1.0, 2.0, 0.25))]
    assert run_state.last_scores == {1: block_row(1, 2.0, 0.5), 2: block_row(2, 0.25, 0.5)}
    run_state.epoch(epoch_body(1, 0, block_row(0, 0.5), block_row(1, None, None)))
    assert run_state.history[1] == EpochResult(plans[1], (0.5, None, 0.125))
    assert run_state.last_scores == {1: block_row(1, 2.0, 0.5), 2: block_row(2, 0.125, 0.75)}  # the newest
    assert notes == [
        ("row", "epoch"), ("row", "epoch"), ("row", "epoch"), ("epoch", 0, [0, 1, 2]),
        ("row", "epoch"), ("epoch", 1, [0, 1, 2]),
    ]  # fmt: skip


def test_the_record_has_what_waited_in_front_of_a_stage_in_each_epoch(monkeypatch):
    run_state, _ = run_state_of(Parallel(2, epochs=2), 2, 2)
    rows = []
    monkeypatch.setattr(run_state._recorder, "write", rows.append)
    run_state.new_plans()
    for stage, fill in ((0, None), (1, 0), (1, 3)):
        run_state.progress({"stage": stage, "step": 1, "checked": 1, "fill": fill})
    for stage in (0, 1):
        run_state.epoch(epoch_body(0, stage, block_row(stage)))
    run_state.epoch(epoch_body(1, 1, block_row(1)))  # nothing was told inside this one
    assert [row.get("fill") for row in rows] == [None, {"mean": 1.5, "max": 3}, None]


def test_progress_goes_to_the_view():
    run_state, notes = run_state_of(Parallel(1, 1), 1, 1)
    run_state.progress({"stage": 0, "step": 7, "checked": 7})
    assert notes == [("progress", 7)]


def test_complete_when_every_stage_has_sent_its_result():
    run_state, _ = run_state_of(Parallel(2, 1), 2, 2)
    run_state.result(result_body(1))
    assert not run_state.is_complete
    run_state.result(result_body(0))
    assert run_state.is_complete
    assert [r["row"]["stage"] for r in run_state.stage_results()] == [0, 1]


def test_the_clock_runs_from_the_last_stage_ready_to_the_last_epoch(clock):
    run_state, notes = run_state_of(Parallel(1, 2), 1, 1)
    run_state.new_plans()
    assert run_state.wall_s == 0.0
    run_state.ready()  # 10
    assert run_state.wall_s == 0.0
    run_state.epoch(epoch_body(0, 0, block_row(0, 1.0)))  # 20
    run_state.epoch(epoch_body(1, 0, block_row(0, 1.0)))  # 30
    assert run_state.wall_s == 20.0
    assert ("started",) in notes


def test_no_time_before_a_stage_is_ready(clock):
    run_state, _ = run_state_of(Parallel(1, 1), 1, 1)
    run_state.new_plans()
    run_state.epoch(epoch_body(0, 0, block_row(0, 1.0)))
    assert run_state.wall_s == 0.0


def test_a_run_that_somebody_ends_still_scores_the_test_set_by_its_best_epoch():
    schedule = Selecting(Parallel(1, epochs=9), 1, 9, 0)
    run_state, _ = run_state_of(schedule, 1, 1)
    run_state._early_end = early = EarlyEnd(ahead=2)
    assert [epoch for epoch, _ in run_state.new_plans()] == [0, 1]
    run_state.epoch(epoch_body(0, 0, scored(0, 0.5)))
    early.reason = "enough"
    assert run_state.new_plans() == []  # epoch 1 is under way, and counts
    run_state.epoch(epoch_body(1, 0, scored(0, 0.25)))
    (last, end) = run_state.new_plans()
    assert (last[0], last[1].scores_test, last[1].choice.best, end) == (2, True, 0, (3, None)) and early.is_taken


class Keeping(list):
    """A keeper that remembers of which cuts it was told, and the epochs that it could write down."""

    def saved(self, report, epochs, wall_s, cache_lost):
        self.append((report["epoch"], report["step"], len(epochs(report["epoch"]))))
        return False


def test_parts_of_a_snapshot_wait_for_the_epochs_in_front_of_it():
    """Of two replicas the first one writes, and it may be ahead of what the other one reports."""
    run_state, _ = run_state_of(Parallel(1, epochs=3), 2, 1)
    run_state.new_plans()
    run_state._keeper = keeper = Keeping()
    run_state.saved({"epoch": 0, "step": 3, "steps": 3})
    assert keeper == [(0, 3, 0)]
    run_state.epoch(epoch_body(0, 0, block_row(0)))
    run_state.saved({"epoch": 1, "step": 0, "steps": 5})
    run_state.epoch(epoch_body(1, 0, block_row(0)))
    run_state.saved({"epoch": 2, "step": 1, "steps": 11})
    assert len(keeper) == 1
    run_state.epoch({**epoch_body(0, 0), "process": 1})
    assert keeper[1:] == [(1, 0, 1)]
    run_state.epoch({**epoch_body(1, 0), "process": 1})
    assert keeper[2:] == [(2, 1, 2)]
    run_state.saved({"epoch": 3, "step": 0, "steps": 15})
    run_state.go_on_from(None)  # whoever wrote that is gone
    run_state.new_plans()
    for epoch in range(3):
        run_state.epoch(epoch_body(epoch, 0, block_row(0)))
        run_state.epoch({**epoch_body(epoch, 0), "process": 1})
    assert len(keeper) == 3
