import math
from types import SimpleNamespace

import pytest
import torch

from pipeline.data.position_tasks import PositionClasses, Regression
from pipeline.data.task import Classification
from pipeline.engine.scores import Scores

TASK = Classification(3)


def rule_of(task, scores_are_outputs=True):
    return SimpleNamespace(num_correct=task.num_correct, decoded_loss=task.loss, averaged=task.averaged,
                           spec=SimpleNamespace(task=task), scores_are_outputs=scores_are_outputs)  # fmt: skip


def scores(task=TASK, scores_are_outputs=True):
    return Scores(rule_of(task, scores_are_outputs), torch.device("cpu"))


def row_of(task, x, y, **options):
    found = scores(task, **options)
    for rows in torch.arange(len(y)).split(4):
        found.add_test(x[rows], y[rows])
    return found.read()


def test_positions_are_what_the_accuracy_and_the_loss_count():
    task = PositionClasses(12, (3,), is_bytes=True)
    x, y = torch.randn(10, 3, 12), torch.randint(12, (10, 3), dtype=torch.uint8)
    row = row_of(task, x, y)
    assert row["test_accuracy"] == (x.argmax(2) == y).sum().item() / 30
    loss = task.loss(x.double(), y).item()
    top5 = (x.topk(5).indices == y.unsqueeze(2)).sum().item() / 30
    assert row["test_loss"] == pytest.approx(loss, rel=1e-6)
    expected = {"top5": top5, "bits_per_byte": loss / math.log(2), "perplexity": math.exp(loss)}
    assert row["test_metrics"] == pytest.approx(expected, rel=1e-6)


def test_a_decoder_of_another_loss_has_no_bits_per_byte():
    task = PositionClasses(4, (3,), is_bytes=True)
    row = row_of(task, torch.randn(10, 3, 4), torch.randint(4, (10, 3)), scores_are_outputs=False)
    assert "test_metrics" not in row and row["test_accuracy"] is not None


def test_numbers_have_no_accuracy():
    x, y = torch.randn(10, 2), torch.randn(10, 2)
    row = row_of(Regression(2), x, y)
    assert row["test_accuracy"] is None
    assert row["test_metrics"] == {"mse": row["test_loss"]}
    assert row["test_loss"] == pytest.approx((x - y).square().mean().item(), rel=1e-6)


def test_many_classes_have_a_top5():
    x, y = torch.randn(10, 20), torch.randint(20, (10,))
    top5 = (x.topk(5).indices == y.unsqueeze(1)).sum().item() / 10
    assert row_of(Classification(20), x, y)["test_metrics"] == {"top5": top5}


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


def test_losses_are_gathered_as_they_come_and_read_the_same():
    whole, parts = scores(), scores()
    for index, value in enumerate([0.3, 1.7, 2.9, 0.1, 5.5]):
        for each in (whole, parts):
            each.add_loss(torch.tensor(value), index + 1)
        if index in (1, 2):
            parts.gather()
            assert parts.newest_loss() == pytest.approx(value)
    assert parts.gather().shape == (2,) and parts.gather() is None
    assert torch.equal(parts.losses(), whole.losses()) and whole.losses().shape == (5,)
    assert parts.read() == whole.read()


def test_what_a_batch_that_is_left_out_brought_counts_nothing():
    found, without = scores(), scores()
    for each in (found, without):
        each.add_loss(torch.tensor(1.0), 4)
        each.add_credit(torch.tensor(3), 4)
    mark = found.mark()
    for _ in range(2):  # micro-batches
        found.add_loss(torch.tensor(float("nan")), 2)
        found.add_credit(torch.tensor(1), 2)
    assert len(found.since(mark)) == 2
    found.leave_out(mark)
    assert found.num_skipped == 1
    for each in (found, without):
        each.add_loss(torch.tensor(2.0), 4)
        each.add_credit(torch.tensor(1), 4)
    assert found.losses().tolist() == [1.0, 0.0, 0.0, 2.0]  # in their places, for a step is told by its place
    assert found.read() == {**without.read(), "skipped": 1}


def test_an_epoch_that_was_left_out_whole_has_no_loss():
    found = scores()
    mark = found.mark()
    found.add_loss(torch.tensor(float("inf")), 2)
    found.leave_out(mark)
    assert found.read()["train_loss"] is None and found.read()["skipped"] == 1


def test_batches_that_were_left_out_are_captured_without_a_loss():
    """A hidden block under backprop has none of its own."""
    found, again = scores(), scores()
    assert found.capture() == {}
    found.leave_out(found.mark())
    again.restore(found.capture())
    assert again.num_skipped == 1 and again.newest_loss() is None and again.num_losses == 0
    again.add_loss(torch.tensor(0.5), 2)
    assert again.newest_loss() == 0.5 and again.losses().tolist() == [0.5]
    assert again.read() == {"train_loss": 0.5, "test_accuracy": None, "test_loss": None, "credit": None, "skipped": 1}
