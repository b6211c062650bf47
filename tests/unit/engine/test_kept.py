from types import SimpleNamespace

import pytest
import torch
from torch import nn

from pipeline.engine.kept import as_validation, begin_choice, chosen, final_state, keep, restore_kept
from pipeline.schedules.plan import BlockMode, Choice, Plan

TRAIN, FROZEN = BlockMode.TRAIN, BlockMode.FROZEN


class Rule(nn.Module):
    """A block of one weight."""

    def __init__(self):
        super().__init__()
        self.register_buffer("weight", torch.zeros(1))
        self.epochs = []

    def begin_epoch(self, epoch):
        self.epochs.append(epoch)


class Stage(SimpleNamespace):
    """Two blocks, whose weights are set by hand."""

    def __init__(self, first=0):
        blocks = range(first, first + 2)
        super().__init__(
            blocks=blocks, rules={k: Rule() for k in blocks}, device=torch.device("cpu"), begun=[],
            evaluation=SimpleNamespace(kept={}),
        )

    def state(self, block):
        return self.rules[block].state_dict()

    def begin(self, plan):
        self.begun.append((plan.epoch, self.weights()))

    def set(self, *weights):
        for rule, weight in zip(self.rules.values(), weights, strict=True):
            rule.weight.fill_(weight)

    def weights(self):
        return [rule.weight.item() for rule in self.rules.values()]


def plan(epoch, choice, modes=(TRAIN, TRAIN), **others):
    return Plan(epoch, modes, (epoch,) * len(modes), choice=choice, **others)


def test_a_copy_of_each_block_that_has_trained():
    stage = Stage()
    stage.set(1, 2)
    keep(stage, plan(0, Choice(None, 0)))
    keep(stage, plan(1, Choice(None, 0), (FROZEN, TRAIN)))
    keep(stage, plan(2, Choice(None, 0), evaluate=False))
    keep(stage, plan(3, None))
    stage.set(5, 6)
    kept = stage.evaluation.kept
    assert {epoch: sorted(states) for epoch, states in kept.items()} == {0: [0, 1], 1: [1]}
    assert kept[0][0]["weight"].tolist() == [1] and kept[0][1]["weight"].tolist() == [2]


def test_what_will_not_be_chosen_is_let_go():
    stage = Stage()
    for epoch in range(4):
        keep(stage, plan(epoch, Choice(None, 0)))
    begin_choice(stage, plan(4, None))
    assert sorted(stage.evaluation.kept) == [0, 1, 2, 3]
    begin_choice(stage, plan(4, Choice(1, 3)))
    assert sorted(stage.evaluation.kept) == [1, 3]  # the best one that is known, and one of which nothing is known
    begin_choice(stage, plan(4, Choice(None, 4)))
    assert stage.evaluation.kept == {}


@pytest.mark.parametrize(("has_begun", "expected"), [(False, [1, 6]), (True, [5, 6])])
def test_a_block_is_put_back_before_the_next_one_trains(has_begun, expected):
    stage = Stage()
    stage.set(1, 0)
    keep(stage, plan(0, Choice(None, 0), (TRAIN, BlockMode.IDLE)))
    stage.set(5, 6)
    begin_choice(stage, plan(2, Choice(None, 2, restore=0), (FROZEN, TRAIN)), has_begun=has_begun)
    assert stage.weights() == expected and stage.evaluation.kept == {}


def test_the_test_set_is_scored_by_what_was_chosen_and_the_last_weights_stay():
    stage = Stage()
    for epoch in range(3):
        stage.set(epoch + 1, 10 * epoch)
        keep(stage, plan(epoch, Choice(None, 0)))
    last = plan(3, Choice(1, 3, restore=1, scores_test=True), (FROZEN, FROZEN))
    with chosen(stage, last):
        assert stage.weights() == [2, 10] and stage.begun == [(3, [2, 10])]
        assert [rule.epochs for rule in stage.rules.values()] == [[1], [1]]
    assert stage.weights() == [3, 20]
    assert final_state(stage, 0)["weight"].tolist() == [2] and final_state(stage, 1)["weight"].tolist() == [10]


def test_nothing_is_kept_beside_the_last_weights_where_they_were_chosen():
    stage = Stage()
    stage.set(1, 2)
    keep(stage, plan(0, Choice(None, 0)))
    with chosen(stage, plan(1, Choice(0, 1, scores_test=True), (FROZEN, FROZEN))):
        assert stage.weights() == [1, 2]
    assert stage.evaluation.kept == {} and final_state(stage, 1)["weight"].tolist() == [2]


def test_the_weights_come_back_where_scoring_fails():
    stage = Stage()
    stage.set(1, 2)
    keep(stage, plan(0, Choice(None, 0)))
    stage.set(3, 4)
    with pytest.raises(RuntimeError, match="broken"), chosen(stage, plan(2, Choice(0, 2, restore=0, scores_test=True))):
        raise RuntimeError("broken")
    assert stage.weights() == [3, 4]


def test_what_a_snapshot_holds():
    stage = Stage(first=2)
    restore_kept(stage, 2, {"7/weight": torch.ones(1), "9/a/b": torch.zeros(1)})
    restore_kept(stage, 3, {"7/weight": torch.zeros(1)})
    kept = stage.evaluation.kept
    assert sorted(kept) == [7, 9] and sorted(kept[7]) == [2, 3] and list(kept[9][2]) == ["a/b"]


def test_scores_of_the_validation_set_are_not_those_of_the_test_set():
    row = {"block": 1, "trained": True, "train_loss": 1.0, "test_accuracy": 0.5, "test_loss": 2.0, "credit": None}
    assert as_validation(row) == {
        **row, "test_accuracy": None, "test_loss": None, "validation_accuracy": 0.5, "validation_loss": 2.0,
    }  # fmt: skip
    assert as_validation({**row, "test_metrics": {"mse": 1.0}})["validation_metrics"] == {"mse": 1.0}
    assert "test_metrics" not in as_validation({**row, "test_metrics": {"mse": 1.0}})
