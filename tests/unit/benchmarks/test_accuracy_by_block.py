"""What is kept of every block, and the figures that are read off it."""

import pytest

from benchmarks.accuracy.by_block import (
    at_round,
    at_updates,
    block_error,
    course,
    drift_at,
    moved,
    updates_saved,
    updates_taken,
)


def epoch(number, *blocks):
    """A row of the record. Args: number, from 1; blocks, of each whether it trained, its accuracy, and its gate."""
    rows = [{"block": k, "trained": t, "test_accuracy": a, **gate} for k, (t, a, gate) in enumerate(blocks)]
    return {"event": "epoch", "epoch": number - 1, "blocks": rows[::-1]}


def gated(first, second, *, drift=0.5):
    """Epochs of two blocks, of which the second takes parts of its steps. Args: accuracies of the two, and parts."""
    return [
        epoch(n, (True, a, {"gate": 1.0, "drift": 0.0}), (True, b, {"gate": part, "drift": drift / n}))
        for n, (a, (b, part)) in enumerate(zip(first, second, strict=True), 1)
    ]


def test_updates_are_counted_in_whole_steps():
    run = course(gated([0.5, 0.6, 0.7], [(0.4, 0.25), (0.5, 0.5), (0.8, 1.0)]), 2)
    assert run["course"]["epochs"] == [0, 1, 2]
    assert run["course"]["errors"] == [[50.0, 60.0], [40.0, 50.0], [30.0, 20.0]]
    assert run["course"]["parts"] == [[1.0, 0.25], [1.0, 0.5], [1.0, 1.0]]
    assert run["course"]["taken"] == [[1.0, 0.25], [2.0, 0.75], [3.0, 1.75]]
    assert run["course"]["drift"] == [[0.0, 0.5], [0.0, 0.25], [0.0, 0.1667]]
    assert updates_taken(run) == pytest.approx((3.0 + 1.75) / 2)
    assert (block_error(0)(run), block_error(-1)(run)) == (30.0, 20.0)
    assert (drift_at(2, 1)(run), drift_at(4, 1)(run)) == (0.25, None)
    assert [at_round(n)(run) for n in (1, 3, 4)] == [60.0, 20.0, None]


def test_an_error_at_a_number_of_updates_lies_between_two_evaluations():
    run = course(gated([0.5, 0.6, 0.7], [(0.4, 0.25), (0.5, 0.5), (0.8, 1.0)]), 2)  # means: .625, 1.375, 2.375
    assert at_updates(0.625)(run) == 60.0 and at_updates(2.375)(run) == 20.0
    assert at_updates(1.0)(run) == pytest.approx((60.0 * 50.0) ** 0.5)
    assert at_updates(1.875)(run) == pytest.approx((50.0 * 20.0) ** 0.5)
    assert at_updates(0.5)(run) is None and at_updates(2.5)(run) is None


def test_errors_without_a_logarithm_lie_on_the_straight_line():
    run = course(gated([0.5, 0.6], [(0.6, 0.0), (1.0, 0.0)]), 2)
    assert at_updates(0.75)(run) == pytest.approx(20.0)


def test_blocks_that_take_turns_have_taken_as_many_updates_as_each_trains():
    rows = [
        epoch(1, (True, 0.5, {}), (False, None, {})), epoch(2, (True, 0.6, {})),  # one that is idle may be left out
        epoch(3, (False, 0.6, {}), (True, 0.7, {})), epoch(4, (False, None, {}), (True, 0.8, {})),
    ]  # fmt: skip
    rows[3]["blocks"] = [block for block in rows[3]["blocks"] if block["block"] == 1]  # as one whose outputs are kept
    run = course(rows, 2)
    assert run["course"]["taken"][-1] == [2.0, 2.0] and updates_taken(run) == 2.0
    assert at_updates(2)(run) == at_round(4)(run) == 20.0 and at_round(2)(run) is None
    assert run["block_errors"] == [40.0, 20.0]  # that of a block that is no longer evaluated is kept
    assert run["course"]["drift"] == [[None, None]] * 4


def test_of_a_long_run_some_epochs_are_kept_and_the_last_one():
    run = course([epoch(n, (True, n / 1000, {})) for n in range(1, 124)], 1)
    assert run["course"]["epochs"] == [*range(50), *range(59, 120, 10), 122]
    assert updates_taken(run) == 123.0 and at_updates(70)(run) == 93.0 and run["block_errors"] == [87.7]


def test_what_is_saved_and_how_far_weights_have_moved():
    run = course(gated([0.5, 0.6], [(0.4, 0.5), (0.5, 0.0)]), 2)
    assert updates_saved(run) == pytest.approx(100 * (1 - (2 + 0.5) / 4))
    run["updates"] = [{"epoch": 1, "blocks": [0.1, 0.0]}, {"epoch": 2, "blocks": [0.3, 0.0]}]
    assert moved(0)(run) == pytest.approx(20.0) and moved(1)(run) is None
    assert moved(0)({"updates": None}) is None
