import math

from pipeline.records.history import replayed_rows, values_of
from pipeline.records.selected import selection_table
from pipeline.schedules.plan import BlockMode, Choice, Plan
from pipeline.schedules.schedule import EpochResult, Parallel
from pipeline.schedules.selection import Selecting

TRAIN, FROZEN, IDLE = BlockMode.TRAIN, BlockMode.FROZEN, BlockMode.IDLE


def row(block, accuracy, loss):
    return {
        "block": block, "trained": True, "train_loss": 1.0, "test_accuracy": None, "test_loss": None, "credit": None,
        "validation_accuracy": accuracy, "validation_loss": loss,
    }  # fmt: skip


def test_without_a_validation_set():
    plans = [Parallel(1, 2).plan(epoch, ()) for epoch in range(3)]
    history = [EpochResult(plan, (1.0,)) for plan in plans[:2]]
    found = selection_table(plans, history, [{}, {}], num_validation=0, eval_every=1)
    assert found == {"by": "nothing: the last epoch", "epoch": 1, "test_set": "scored in every epoch"}
    found = selection_table(plans, history, [{}, {}], num_validation=0, eval_every=5)
    assert found["test_set"] == "scored in every 5 epochs, and the last"


def test_what_was_chosen_by_what():
    schedule = Selecting(Parallel(1, 3), 1, 3, 0)
    epochs = [[row(0, 0.5, 1.0)], [row(0, 0.75, 0.5)], [row(0, 0.5, 0.25)]]
    history = replayed_rows(schedule, epochs, 1)
    plans = [*(e.plan for e in history), schedule.plan(3, history), None]
    scores = [{0: rows[0]} for rows in epochs]
    found = selection_table(plans, history, scores, num_validation=8, eval_every=1)
    assert found == {
        "by": "validation accuracy", "epoch": 1, "test_set": "scored once, by the weights of that epoch",
        "validation": {"accuracy": 0.75, "loss": 0.5}, "validation_samples": 8, "blocks": [1],
    }  # fmt: skip


def test_blocks_that_took_turns_come_from_epochs_of_their_own():
    modes = [(TRAIN, IDLE), (TRAIN, IDLE), (FROZEN, TRAIN), (FROZEN, TRAIN)]
    choices = [Choice(None, 0), Choice(0, 1), Choice(None, 2, restore=0), Choice(2, 3)]
    plans = [Plan(n, m, (0, 0), choice=c) for n, (m, c) in enumerate(zip(modes, choices, strict=True))]
    plans += [Plan(4, (FROZEN, FROZEN), (2, 2), choice=Choice(3, 4, scores_test=True)), None]
    scores = [{0: row(0, None, 2.0)}] * 2 + [{0: row(0, None, 2.0), 1: row(1, None, 0.5)}] * 2
    history = [EpochResult(plan, (1.0, 1.0)) for plan in plans[:4]]
    found = selection_table(plans, history, scores, num_validation=8, eval_every=1)
    assert found["blocks"] == [0, 3] and found["by"] == "validation loss"
    assert found["validation"] == {"accuracy": None, "loss": 0.5}


def test_a_frozen_block_comes_from_no_epoch():
    schedule = Selecting(Parallel(2, 2, frozen=frozenset({0})), 2, 2, 0)
    epochs = [[row(0, 0.5, 1.0), row(1, 0.5, 1.0)], [row(0, 0.5, 1.0), row(1, 0.25, 1.0)]]
    history = replayed_rows(schedule, epochs, 2)
    plans = [*(e.plan for e in history), schedule.plan(2, history), None]
    scores = [dict(enumerate(rows)) for rows in epochs]
    assert selection_table(plans, history, scores, num_validation=8, eval_every=1)["blocks"] == [None, 0]


def test_what_weights_are_worth():
    rows = [row(0, 0.5, 2.0), row(2, None, 3.0), row(3, 0.5, math.nan), row(4, None, None)]
    assert values_of(rows, 5) == ((0.5, -2.0), None, (-3.0,), (0.5, -math.inf), None)
    assert values_of([row(0, None, None)], 1) == ()
