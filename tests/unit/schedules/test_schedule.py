import math

import pytest

from pipeline.schedules.plan import BlockMode
from pipeline.schedules.schedule import EpochResult, Parallel, Sequential, converged

LETTERS = {BlockMode.TRAIN: "T", BlockMode.FROZEN: "F", BlockMode.IDLE: "."}


def drawn(plan):
    """``FT. 1- e``: modes, the block at which batches enter, whether inputs are kept (+), whether it evaluates (e)."""
    modes = "".join(LETTERS[mode] for mode in plan.modes)
    return f"{modes} {plan.source}{'+' if plan.store else '-'} {'e' if plan.evaluate else '-'}"


def result(plan, losses):
    """An epoch as it would be reported; ``losses`` holds a list for each block, one for each epoch of its training."""
    return EpochResult(
        plan,
        tuple(
            losses[k][plan.lr_epochs[k]] if mode is BlockMode.TRAIN else None for k, mode in enumerate(plan.modes)
        ),
    )


def timeline(schedule, losses):
    """Every plan of a run, and the history that led there."""
    history, plans = [], []
    while (plan := schedule.plan(len(history), tuple(history))) is not None:
        plans.append(plan)
        history.append(result(plan, losses))
        assert plan.epoch == len(plans) - 1 < 100
    return plans, history


SLOW = [[10.0 * 0.5**n for n in range(20)]] * 3  # always improving
STOP = [[1.0, 0.5, 0.49, 0.1], [1.0, 0.99, 0.1], [8.0, 4.0, 2.0, 1.0]]  # block 0 ends after 3 epochs, block 1 after 2


@pytest.mark.parametrize(
    ("schedule", "losses", "expected"),
    [
        pytest.param(
            Parallel(3, epochs=4), SLOW,
            ["TTT 0- e",
             "TTT 0- e",
             "TTT 0- e",
             "TTT 0- e"], id="parallel"),
        pytest.param(
            Parallel(2, epochs=5, eval_every=2), SLOW,
            ["TT 0- -",
             "TT 0- e",
             "TT 0- -",
             "TT 0- e",
             "TT 0- e"], id="parallel, evaluated now and then and at the end"),
        pytest.param(
            Sequential(3, epochs=2, patience=1), SLOW,
            ["T.. 0- e",
             "T.. 0- e",
             "FT. 0+ e",
             "FT. 1- e",
             "FFT 1+ e",
             "FFT 2- e"], id="sequential, capped, kept inputs"),
        pytest.param(
            Sequential(3, epochs=2, patience=1, cached=False), SLOW,
            ["T.. 0- e",
             "T.. 0- e",
             "FT. 0- e",
             "FT. 0- e",
             "FFT 0- e",
             "FFT 0- e"], id="sequential, capped, from the data every time"),
        pytest.param(
            Sequential(3, epochs=4, patience=1, tolerance=0.1), STOP,
            ["T.. 0- e",
             "T.. 0- e",
             "T.. 0- e",
             "FT. 0+ e",
             "FT. 1- e",
             "FFT 1+ e",
             "FFT 2- e",
             "FFT 2- e",
             "FFT 2- e"], id="sequential, converged"),
        pytest.param(
            Sequential(2, epochs=9, patience=3, eval_every=5), [[1.0] * 9, [1.0] * 9],
            ["T. 0- -",
             "T. 0- -",
             "T. 0- -",
             "T. 0- e",  # may be the last of the phase
             "FT 0+ e",  # fills, the test set too
             "FT 1- -",
             "FT 1- -",
             "FT 1- e"], id="sequential, patience delays the end and the evaluation"),
        pytest.param(
            Sequential(2, epochs=6, patience=2, eval_every=2, cached=False), SLOW,
            ["T. 0- -",
             "T. 0- e",
             "T. 0- e",
             "T. 0- e",
             "T. 0- e",
             "T. 0- e",
             "FT 0- -",
             "FT 0- e",
             "FT 0- e",
             "FT 0- e",
             "FT 0- e",
             "FT 0- e"], id="sequential, every epoch that may be the last is evaluated"),
        pytest.param(Sequential(1, epochs=1), SLOW, ["T 0- e"], id="sequential, one block, one epoch"),
    ],
)  # fmt: skip
def test_timelines(schedule, losses, expected):
    plans, _ = timeline(schedule, losses)
    assert [drawn(plan) for plan in plans] == expected


def test_the_learning_rate_goes_by_the_epochs_of_the_block():
    plans, _ = timeline(Sequential(3, epochs=4, patience=1, tolerance=0.1), STOP)
    assert [p.lr_epochs for p in plans] == [
        (0, 0, 0), (1, 0, 0), (2, 0, 0), (3, 0, 0), (3, 1, 0), (3, 2, 0), (3, 2, 1), (3, 2, 2), (3, 2, 3),
    ]  # fmt: skip
    assert [p.lr_epochs for p in timeline(Parallel(2, epochs=3), SLOW)[0]] == [(0, 0), (1, 1), (2, 2)]


@pytest.mark.parametrize(
    "schedule", [Parallel(3, 3), Sequential(3, 4, 1, 0.1), Sequential(3, 2, 5, cached=False)], ids=str
)
def test_the_same_history_gives_the_same_plan(schedule):
    plans, history = timeline(schedule, STOP)
    before = list(history)
    for epoch in reversed(range(len(plans))):  # in any order, any number of times
        assert schedule.plan(epoch, history[:epoch]) == plans[epoch] == schedule.plan(epoch, tuple(history[:epoch]))
    assert schedule.plan(len(plans), history) is None
    assert history == before


def test_parallel_asks_nothing_of_the_past():
    _, history = timeline(Parallel(2, 3), SLOW)
    assert Parallel(2, 3).plan(1, ()) == Parallel(2, 3).plan(1, history)
    assert (Parallel.depends_on_results, Sequential.depends_on_results) == (False, True)


@pytest.mark.parametrize(
    ("losses", "patience", "tolerance", "expected"),
    [
        ([], 1, 0.1, False),
        ([1.0], 1, 0.1, False),  # nothing to compare with
        ([1.0, 0.9], 2, 0.5, False),
        ([1.0, 0.5], 1, 0.1, False),
        ([1.0, 0.875], 1, 0.125, False),  # just enough
        ([1.0, 0.876], 1, 0.125, True),
        ([1.0, 2.0], 1, 0.0, True),  # worse
        ([1.0, 1.0], 1, 0.0, True),  # no improvement is none, whatever the tolerance
        ([0.0, 0.0], 1, 0.1, True),
        ([1.0, 0.0, 0.0, 0.0], 2, 0.1, True),
        ([1.0, 0.999], 1, 0.0, False),
        ([1.0, 0.5, 2.0, 2.0], 2, 0.1, True),  # the best before counts, not the last
        ([1.0, 0.5, 0.4, 2.0], 2, 0.1, False),  # one of the recent is enough
        ([-1.0, -1.05], 1, 0.1, True),
        ([-1.0, -1.2], 1, 0.1, False),
        ([math.nan, math.nan], 1, 0.1, False),
    ],
)
def test_converged(losses, patience, tolerance, expected):
    assert converged(losses, patience, tolerance) is expected


def test_a_block_that_did_not_train_in_its_phase_is_an_error():
    schedule = Sequential(2, 3)
    with pytest.raises(AssertionError, match="the block of a phase trains in every epoch of it"):
        schedule.plan(1, [EpochResult(schedule.plan(0, ()), (None, None))])


def test_frozen_blocks_have_no_phase():
    schedule = Sequential(5, epochs=2, patience=5).without(frozenset({0, 2}))
    losses = [[4.0, 2.0]] * 5
    plans, history = timeline(schedule, losses)
    assert [drawn(plan) for plan in plans] == [
        "FT... 0+ e", "FT... 1- e", "FFFT. 1+ e", "FFFT. 3- e", "FFFFT 3+ e", "FFFFT 4- e",
    ]  # fmt: skip
    assert schedule.plan(6, history) is None
    uncached = Sequential(3, epochs=1, cached=False).without(frozenset({1}))
    assert [drawn(plan) for plan in timeline(uncached, losses)[0]] == ["T.. 0- e", "FFT 0- e"]


def test_frozen_blocks_stay_frozen_beside_others():
    assert drawn(Parallel(4, 3).without(frozenset({0, 2})).plan(1, ())) == "FTFT 0- e"
