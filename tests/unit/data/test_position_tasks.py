import pickle
from math import exp, inf, log

import pytest
import torch

from pipeline.data.position_tasks import PositionClasses, Regression
from pipeline.data.synthetic import random_labels
from pipeline.data.task import Binary, Classification, Labels
from pipeline.numerics.autocast import autocast

TASKS = [PositionClasses(5, (3,)), PositionClasses(12, (2, 3)), Regression(4), Regression(2, (3,))]


def scored(task, size=7):
    """Scores with a graph, and labels."""
    scores = torch.randn(size, *task.out_shape, dtype=torch.float64, requires_grad=True)
    return scores, random_labels(task, size, torch.Generator().manual_seed(1))


def names(task):
    return f"{type(task).__name__}{task.positions}"


@pytest.mark.parametrize("task", TASKS, ids=names)
def test_error_is_the_derivative_of_the_loss(task):
    scores, y = scored(task)
    (expected,) = torch.autograd.grad(task.loss(scores, y), scores)
    torch.testing.assert_close(task.error(scores.detach(), y), expected, rtol=1e-12, atol=1e-15)
    loss, error = task.loss_and_error(scores, y, 0.25)
    assert torch.equal(error, expected * 0.25) and torch.equal(loss, task.loss(scores, y))


@pytest.mark.parametrize("task", TASKS, ids=names)
def test_a_batch_has_the_mean_loss_of_its_samples_and_of_its_parts_by_their_share(task):
    scores, y = scored(task)
    each = task.sample_losses(scores, y)
    assert each.shape == (7,)
    torch.testing.assert_close(each, torch.stack([task.loss(scores[i : i + 1], y[i : i + 1]) for i in range(7)]))
    parts = [task.loss(scores[rows], y[rows]) * (len(rows) / 7) for rows in torch.arange(7).split(4)]
    torch.testing.assert_close(sum(parts), task.loss(scores, y))


@pytest.mark.parametrize("task", TASKS, ids=names)
def test_shapes_of_scores_labels_and_targets(task):
    scores, y = scored(task)
    assert y.shape == (7, *task.label_shape) and y.dtype == task.label_dtype
    assert task.targets(y).shape == scores.shape and task.targets(y).dtype == torch.float32
    assert task.averaged(scores.unsqueeze(0)).shape == scores.shape
    assert task.num_positions == torch.Size(task.positions).numel()
    again = pickle.loads(pickle.dumps(task))
    assert (again.out_shape, again.shares, again.headline) == (task.out_shape, task.shares, task.headline)


@pytest.mark.parametrize(("classes", "dtype"), [(2, torch.uint8), (256, torch.uint8), (257, torch.int16)])
def test_labels_are_held_in_the_narrowest_type(classes, dtype):
    assert PositionClasses(classes, (3,)).label_dtype is dtype


def test_the_posterior_of_averaged_scores_is_the_mean_posterior():
    scores = torch.randn(4, 7, 3, 5, dtype=torch.float64) * 3
    found = PositionClasses(5, (3,)).averaged(scores)
    torch.testing.assert_close(found.softmax(-1), scores.softmax(-1).mean(0))
    numbers = torch.randn(4, 7, 2)
    assert torch.equal(Regression(2).averaged(numbers), numbers.mean(0))


def test_right_answers_are_counted_at_every_position():
    task = PositionClasses(12, (2,))
    scores = torch.zeros(1, 2, 12)
    scores[0, 0, 7] = scores[0, 1, 3] = 1.0
    scores[0, 1, [8, 9, 10, 11]] = 0.5
    y = torch.tensor([[7, 9]], dtype=torch.uint8)
    assert task.num_correct(scores, y).item() == 1 and task.count_shares(scores, y).tolist() == [2]
    assert task.count_shares(scores, torch.tensor([[7, 4]])).tolist() == [1]
    assert Classification(12).count_shares(scores[0], torch.tensor([7, 4])).tolist() == [1]
    for few in (PositionClasses(5, (2,)), Classification(5), Binary()):
        assert few.shares == () and few.count_shares(torch.zeros(1, 5), torch.tensor([0])).tolist() == []


def test_metrics_by_name():
    text = PositionClasses(256, (3,), is_bytes=True)
    assert text.metrics_of_loss(log(8)) == pytest.approx({"bits_per_byte": 3.0, "perplexity": 8.0})
    assert text.metrics_of_loss(1e4)["perplexity"] == inf
    assert PositionClasses(3, (3,)).metrics_of_loss(0.5) == {"perplexity": exp(0.5)}
    assert Regression(1).metrics_of_loss(0.5) == {"mse": 0.5} and Binary().metrics_of_loss(0.5) == {}
    tasks = [text, PositionClasses(3, (3,)), Regression(1), Binary()]
    assert [t.headline for t in tasks] == ["bits_per_byte", "accuracy", "mse", "accuracy"]
    assert [t.labels for t in tasks] == [Labels.CLASSES, Labels.CLASSES, Labels.NUMBERS, Labels.CLASS]


def test_numbers_are_neither_right_nor_wrong():
    with pytest.raises(TypeError, match=r"neither right nor wrong \(asked: how many are right\)\. Ask for the loss"):
        Regression(1).num_correct(torch.zeros(1, 1), torch.zeros(1, 1))


@pytest.mark.parametrize("positions", [(), (3,)])
def test_numbers_are_not_rounded_where_scores_are_under_autocast(positions):
    """1000.3 is 1000 in bfloat16."""
    task = Regression(1, positions)
    scores = torch.full((2, *task.out_shape), 1000.0, dtype=torch.bfloat16, requires_grad=True)
    y = torch.full((2, *task.out_shape), 1000.3)
    with autocast(torch.device("cpu")):
        found = [task.loss(scores, y), task.sample_losses(scores, y)[0]]
        error = task.error(scores.detach(), y)
    assert all(x.dtype is torch.float32 and x.item() == pytest.approx(0.09, rel=1e-3) for x in found)
    torch.testing.assert_close(error, torch.full_like(error, -0.6 / error.numel()), rtol=1e-3, atol=0.0)
    (derivative,) = torch.autograd.grad(found[0], scores)
    assert derivative.dtype is torch.bfloat16 and torch.equal(derivative, error.bfloat16())


def test_one_hot_targets_are_made_once_for_all_blocks_and_travel_nowhere():
    task = PositionClasses(5, (3,))
    _, y = scored(task)
    found = task.targets(y)
    assert task.targets(y) is found and torch.equal(found, torch.eye(5)[y.long()])
    assert task.targets(y.clone()) is not found
    assert len(pickle.dumps(task)) < 600 and torch.equal(pickle.loads(pickle.dumps(task)).targets(y), found)


@pytest.mark.parametrize("task", [PositionClasses(3, (2,)), Regression(2)], ids=["classes", "numbers"])
def test_they_tell_no_class_of_a_sample(task):
    with pytest.raises(TypeError, match=r"scores tell no class of a sample \(given: labels that are"):
        task.told(torch.zeros(4, *task.out_shape))
