from types import SimpleNamespace

import pytest
import torch

from pipeline.data.task import Classification
from pipeline.engine.scores import Scores

TASK = Classification(3)
RULE = SimpleNamespace(num_correct=TASK.num_correct, decoded_loss=TASK.loss, averaged=TASK.averaged)


def scores():
    return Scores(RULE, torch.device("cpu"))


def test_nothing_to_measure():
    empty = scores()
    empty.add_test(None, torch.tensor([1, 2]))  # a block without a decoder
    assert empty.read() == {"train_loss": None, "test_accuracy": None, "test_loss": None, "credit": None}
    assert empty.newest_loss() is None


def test_training_loss_is_the_mean_over_samples():
    found = scores()
    found.add_loss(torch.tensor(1.0), 6)
    found.add_loss(torch.tensor(4.0), 2)
    assert found.newest_loss() == 4.0
    assert found.read() == {"train_loss": 14 / 8, "test_accuracy": None, "test_loss": None, "credit": None}


def test_the_test_set_in_batches_scores_as_in_one():
    x, y = torch.randn(10, 3), torch.randint(3, (10,))
    found = scores()
    for rows in torch.arange(10).split(4):
        found.add_test(x[rows], y[rows])
    row = found.read()
    assert row["test_accuracy"] == (x.argmax(1) == y).sum().item() / 10
    assert row["test_loss"] == pytest.approx(TASK.loss(x.double(), y).item(), rel=1e-6)
    assert row["train_loss"] is None


def test_several_passes_score_as_their_mean_posterior():
    x, y = torch.randn(5, 4, 3, dtype=torch.float64), torch.arange(4) % 3
    found = scores()
    found.add_test(x.view(20, 3), y.repeat(5), 5)
    mean = x.softmax(2).mean(0)
    assert found.read()["test_accuracy"] == (mean.argmax(1) == y).sum().item() / 4
    assert found.read()["test_loss"] == pytest.approx(-mean[torch.arange(4), y].log().mean().item(), rel=1e-12)


def test_reading_twice_gives_the_same():
    found = scores()
    found.add_loss(torch.tensor(2.5), 4)
    found.add_test(torch.eye(3), torch.tensor([0, 1, 1]))
    assert found.read() == found.read()
    assert found.read()["test_accuracy"] == 2 / 3


def test_credit_is_the_share_of_samples_the_block_was_updated_for():
    found = scores()
    found.add_credit(torch.tensor(3), 4)
    found.add_credit(torch.tensor(0), 2)
    assert found.read()["credit"] == 0.5
