import pytest
import torch
import torch.nn.functional as F

from pipeline.data.task import Binary, Classification, Logistic

TASKS = [Classification(5), Logistic(5), Binary()]


def scored(task, size=7):
    """Scores (size, num_outputs) with a graph, and labels."""
    scores = torch.randn(size, task.num_outputs, dtype=torch.float64, requires_grad=True)
    return scores, torch.randint(max(task.num_outputs, 2), (size,))


@pytest.mark.parametrize("task", TASKS, ids=lambda t: type(t).__name__)
def test_error_is_the_derivative_of_the_loss(task):
    scores, y = scored(task)
    (expected,) = torch.autograd.grad(task.loss(scores, y), scores)
    torch.testing.assert_close(task.error(scores.detach(), y), expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("task", TASKS, ids=lambda t: type(t).__name__)
def test_the_posterior_of_averaged_scores_is_the_mean_posterior(task):
    scores = torch.randn(4, 7, task.num_outputs, dtype=torch.float64) * 3
    posterior = (lambda s: s.softmax(-1)) if type(task) is Classification else torch.sigmoid
    torch.testing.assert_close(posterior(task.averaged(scores)), posterior(scores).mean(0))
    if task.num_outputs == 1:  # saturated ones stay finite
        assert task.averaged(torch.tensor([[[800.0]], [[900.0]]])).isfinite()


def test_losses_by_their_formulas():
    scores, y = scored(Classification(5))
    picked = scores.log_softmax(1)[range(7), y]
    torch.testing.assert_close(Classification(5).loss(scores, y), -picked.mean())
    logistic = F.binary_cross_entropy(scores.sigmoid(), F.one_hot(y, 5).double(), reduction="none").sum(1).mean()
    torch.testing.assert_close(Logistic(5).loss(scores, y), logistic)
    scores, y = scored(Binary())
    p = scores.sigmoid().squeeze(1)
    torch.testing.assert_close(Binary().loss(scores, y), -(y * p.log() + (1 - y) * (1 - p).log()).mean())


@pytest.mark.parametrize("task", TASKS, ids=lambda t: type(t).__name__)
def test_sample_losses_are_the_loss_of_each_sample_alone(task):
    scores, y = scored(task)
    found = task.sample_losses(scores, y)
    assert found.shape == (7,)
    torch.testing.assert_close(found, torch.stack([task.loss(scores[i : i + 1], y[i : i + 1]) for i in range(7)]))
    torch.testing.assert_close(found.mean(), task.loss(scores, y))


def test_targets_are_float_matrices():
    y = torch.tensor([2, 0])
    assert torch.equal(Classification(3).targets(y), torch.tensor([[0.0, 0, 1], [1, 0, 0]]))
    assert torch.equal(Binary().targets(torch.tensor([1, 0])), torch.tensor([[1.0], [0.0]]))
    assert Classification(3).targets(y).dtype == torch.float32


@pytest.mark.parametrize(
    ("task", "scores", "labels", "correct", "correct_decoded"),
    [
        (Classification(2), [[3.0, 1.0], [0.0, 2.0], [5.0, 4.0]], [0, 1, 1], 2, 2),
        # a logit is split at 0, a regression on 0 and 1 half way
        (Binary(), [[0.3], [0.7], [-0.2]], [1, 1, 0], 3, 2),
        (Binary(), [[0.0], [0.5]], [0, 0], 1, 2),
    ],
)
def test_right_answers(task, scores, labels, correct, correct_decoded):
    scores, labels = torch.tensor(scores), torch.tensor(labels)
    found = task.num_correct(scores, labels)
    assert (found.item(), found.dtype, found.dim()) == (correct, torch.int64, 0)
    assert task.num_correct_decoded(scores, labels).item() == correct_decoded


def test_num_outputs():
    assert [t.num_outputs for t in TASKS] == [5, 5, 1]


def test_the_class_that_scores_tell_and_its_probability():
    scores = torch.tensor([[2.0, -1.0, 0.5], [0.0, 3.0, 1.0]])
    for task, every in ((Classification(3), scores.softmax(1)), (Logistic(3), scores.sigmoid())):
        labels, chances = task.told(scores)
        assert labels.tolist() == [0, 1] and torch.equal(chances, every[[0, 1], [0, 1]])
    labels, chances = Binary().told(torch.tensor([[2.0], [-3.0]]))
    assert labels.tolist() == [1, 0] and torch.equal(chances, torch.tensor([2.0, 3.0]).sigmoid())
