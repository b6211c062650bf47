import pytest

from pipeline.schedules.plan import BlockMode
from pipeline.schedules.schedule import EpochResult, Parallel, Sequential, Waiting, replayed
from pipeline.schedules.selection import Selecting, best_epoch


def history_of(schedule, values, losses=None):
    """The plans of a run whose epochs were worth ``values``, by block, as they become known; and its history."""
    history, plans = [], []
    while True:
        epoch = len(plans)
        needed = schedule.waits_for(epoch, history)
        while len(history) < needed:
            plan = plans[len(history)]
            loss = losses[plan.top][plan.lr_epochs[plan.top]] if losses else 1.0
            row = tuple(loss if mode is BlockMode.TRAIN else None for mode in plan.modes)
            worth = tuple((v,) for v in values[len(history)]) if plan.evaluate else ()
            history.append(EpochResult(plan, row, values=worth))
            needed = schedule.waits_for(epoch, history)
        plan = schedule.plan(epoch, history[:needed])
        if plan is None:
            return plans, history
        plans.append(plan)


def parallel(values, *, epochs=8, patience=0, eval_every=1):
    schedule = Selecting(Parallel(2, epochs, eval_every), 2, epochs, patience)
    return history_of(schedule, [(0.0, v) for v in values])


def test_plans_say_what_is_known_an_epoch_later():
    plans, history = parallel([0.1, 0.5, 0.3, 0.5], epochs=4)
    assert [(p.choice.best, p.choice.decided) for p in plans] == [(None, 0), (None, 0), (0, 1), (1, 2), (1, 4)]
    assert len(history) == 4 and plans[-1].scores_test and plans[-1].choice.restore == 1
    assert not any(p.scores_test for p in plans[:-1])
    assert plans[-1].modes == (BlockMode.FROZEN,) * 2 and plans[-1].evaluate and plans[-1].source == 0


def test_the_last_epoch_needs_no_restoring():
    plans, _ = parallel([0.1, 0.2, 0.3], epochs=3)
    assert (plans[-1].choice.best, plans[-1].choice.restore) == (2, None)


@pytest.mark.parametrize(
    ("values", "patience", "trained", "best"),
    [
        ([1, 2, 2, 2, 9, 9, 9, 9], 2, 5, 4),  # stalled after epoch 3, while epoch 4 was under way, which counts
        ([1, 2, 2, 2, 1, 9, 9, 9], 2, 5, 1),
        ([2, 1, 9, 9, 9, 9, 9, 9], 1, 3, 2),
        ([1, 2, 3, 4, 5, 6, 7, 8], 1, 8, 7),
        ([1, 2, 3, 4, 5, 6, 7, 7], 1, 8, 6),  # found out too late to matter
        ([1, 2, 3, 4, 5, 6, 6, 9], 1, 8, 7),
        ([5, 1, 1, 1, 1, 1, 1, 1], 0, 8, 0),
    ],
)
def test_stopping_early(values, patience, trained, best):
    plans, history = parallel(values, patience=patience)
    assert (len(history), plans[-1].choice.best) == (trained, best)


def test_epochs_that_are_not_scored_are_not_counted():
    plans, history = parallel([9, 5, 9, 4, 9, 3, 9, 9], patience=1, eval_every=2)
    assert (len(history), plans[-1].choice.best) == (5, 1)


def test_no_plan_depends_on_more_than_it_waits_for():
    """Whoever is asked with a longer history, because stages were slow, says the same."""
    schedule = Selecting(Parallel(2, 8), 2, 8, 2)
    plans, history = parallel([1, 2, 2, 2, 1, 9, 9, 9], patience=2)
    for plan in plans:
        for known in range(schedule.waits_for(plan.epoch, history), len(history) + 1):
            assert schedule.plan(plan.epoch, history[:known]) == plan


def test_stages_run_ahead():
    schedule = Selecting(Parallel(2, 8), 2, 8, 2)
    assert [schedule.waits_for(epoch, ()) for epoch in range(4)] == [0, 0, 1, 2]
    assert schedule.waits_for(8, ()) == 8  # the test set is scored when everything is known


def test_blocks_that_take_turns_are_frozen_with_their_best_weights():
    inner = Sequential(2, epochs=3, patience=5)
    values = [(0.1, 0), (0.9, 0), (0.2, 0), (0, 0.3), (0, 0.1), (0, 0.2)]
    plans, history = history_of(Selecting(inner, 2, 3, 0), values)
    assert len(history) == 6 and [p.top for p in plans] == [0, 0, 0, 1, 1, 1, 1]
    assert [p.choice.restore for p in plans] == [None, None, None, 1, None, None, 3]
    assert [p.choice.best for p in plans] == [None, 0, 1, None, 3, 3, 3]


def test_a_block_that_gets_no_better_is_frozen():
    inner = Sequential(2, epochs=9, patience=8, stalls_after=2)
    values = [(0.5, 0), (0.4, 0), (0.3, 0), (0, 0.1), (0, 0.2), (0, 0.2), (0, 0.2)]
    plans, history = history_of(Selecting(inner, 2, 9, 2), values)
    assert len(history) == 7 and [p.top for p in plans] == [0, 0, 0, 1, 1, 1, 1, 1]
    assert plans[3].choice.restore == 0 and plans[-1].choice.best == 4


def test_a_run_is_replayed():
    schedule = Selecting(Parallel(2, 8), 2, 8, 2)
    values = [1, 2, 2, 2, 1, 9, 9, 9]
    _, history = parallel(values, patience=2)
    worth = [((0.0,), (float(v),)) for v in values]
    again = replayed(schedule, [(1.0, 1.0)] * 8, values=worth)
    assert [e.plan for e in again] == [e.plan for e in history]


def test_the_first_of_the_best():
    plans, history = parallel([1, 3, 3, 2], epochs=4)
    assert best_epoch(history, 1) == 1 and best_epoch(history, 1, first=2) == 2
    assert best_epoch(history[:0], 1) is None
    assert best_epoch([EpochResult(plans[0], (1.0, 1.0))], 1) is None


@pytest.mark.parametrize(
    ("values", "patience", "expected"),
    [
        ([1, 2], 0, False), ([2, 1], 1, True), ([2, 1], 2, False), ([2, 1, 1], 2, True), ([2, 1, 3], 2, False),
        ([2, None, 1], 2, False), ([2, None, 1], 1, True), ([2, 2], 1, True), ([2, 1, None], 1, False),
        ([2, 1, 1, 3], 2, False), ([2, 1, 3, 3, 1], 2, True), ([2, 1, 1], 0, False),
    ],
)
def test_the_wait_is_over_after_the_last(values, patience, expected):
    waiting = Waiting(patience)
    assert [waiting.is_over(None if v is None else (v,)) for v in values][-1] is expected

