"""A run that somebody asks to end: which epoch is its last, and how far ahead plans are published."""

from dataclasses import replace

import pytest
from tests.support.run_doubles import Notes, block_row, epoch_body

from pipeline.records import run_state as module
from pipeline.records.early_end import EarlyEnd
from pipeline.records.run_state import RunState
from pipeline.schedules.schedule import Parallel, Sequential
from pipeline.schedules.selection import Selecting


def state_of(schedule, early_end):
    return RunState(schedule, 1, 2, Notes(), Notes(), early_end=early_end)


def published(run_state):
    return [epoch if plan is not None else None for epoch, plan in run_state.new_plans()]


@pytest.fixture
def clock(monkeypatch):
    times = iter(range(0, 1000, 10))
    monkeypatch.setattr(module.time, "perf_counter", lambda: float(next(times)))


def test_plans_are_published_no_further_ahead_than_is_needed(clock):
    run_state = state_of(Parallel(2, epochs=9), EarlyEnd(ahead=3))
    assert published(run_state) == [0, 1, 2]
    run_state.ready()
    run_state.epoch(epoch_body(0, 0, block_row(0), block_row(1)))
    assert published(run_state) == [3]  # an epoch takes ten seconds


def test_short_epochs_are_published_a_second_ahead():
    assert [EarlyEnd(2).epochs_ahead(s) for s in (None, 0.0, 0.25, 0.3, 1.5)] == [2, 2, 6, 5, 2]


def test_a_run_ends_behind_the_epochs_that_are_planned():
    run_state = state_of(Parallel(2, epochs=9), early_end := EarlyEnd(ahead=2))
    assert published(run_state) == [0, 1]
    early_end.reason = "enough"
    run_state.epoch(epoch_body(0, 0, block_row(0), block_row(1)))
    assert published(run_state) == [None] and early_end.is_taken
    assert published(run_state) == []


def test_a_schedule_that_waits_for_results_ends_at_once():
    run_state = state_of(Sequential(2, epochs=9), early_end := EarlyEnd(ahead=2))
    assert published(run_state) == [0]
    early_end.reason = "enough"
    run_state.epoch(epoch_body(0, 0, block_row(0, loss=0.5)))
    assert published(run_state) == [None] and early_end.is_taken


def test_the_last_epoch_is_always_evaluated():
    schedule = Parallel(2, epochs=9, eval_every=3)
    run_state = state_of(schedule, early_end := EarlyEnd(ahead=1))
    assert published(run_state) == [0]
    early_end.reason = "enough"
    run_state.epoch(epoch_body(0, 0, block_row(0), block_row(1)))
    assert run_state.new_plans() == [(1, replace(schedule.plan(1, ()), evaluate=True))] and not early_end.is_taken
    run_state.epoch(epoch_body(1, 0, block_row(0), block_row(1)))
    assert published(run_state) == [None] and early_end.is_taken


def test_a_run_that_ends_by_itself_was_not_stopped():
    run_state = state_of(Parallel(2, epochs=1), early_end := EarlyEnd(ahead=2))
    assert published(run_state) == [0, None]
    early_end.reason = "too late"
    assert published(run_state) == [] and not early_end.is_taken


def test_nothing_is_stopped_before_it_has_begun():
    early_end = EarlyEnd(ahead=2, reason="never wanted")
    assert published(state_of(Parallel(2, epochs=9), early_end)) == [0, None] and early_end.is_taken


@pytest.mark.parametrize("inner", [Parallel(2, epochs=9), Sequential(2, epochs=9, patience=9)], ids=["all", "turns"])
def test_a_run_whose_epochs_are_chosen_ends_once_all_of_them_are_known(inner):
    run_state = state_of(Selecting(inner, 2, epochs=9, patience=0), early_end := EarlyEnd(ahead=3))
    planned = published(run_state)
    early_end.reason = "enough"
    for epoch in planned:  # those under way may be better
        assert published(run_state) == []
        values = {"validation_accuracy": 1.0 - epoch, "validation_loss": 0.0}
        rows = [{**block_row(block, loss=0.5), **values} for block in (0, 1)]
        run_state.epoch(epoch_body(epoch, 0, *rows))
    (epoch, last), over = run_state.new_plans()
    assert (epoch, last.scores_test, over) == (len(planned), True, (epoch + 1, None)) and early_end.is_taken
    if not inner.depends_on_results:
        assert planned == [0, 1] and last.choice.restore == 0
