"""REINFORCE: on average the gradient of the expected loss, from one number per sample."""

import pytest
import torch
from rule_builders import CLASSES, assert_same, batch, gradients, learn_chain, make_rule, make_rules, read_out
from torch import nn

from pipeline.data.task import Classification
from pipeline.network.block import Block
from pipeline.network.hard_units import Bernoulli
from pipeline.rules.reinforce import build

DRAWS = 100_000
LOSSES = (2.0, 0.5)
"""f(0) and f(1) of the toy below."""


def hidden(num_in, num_out, *more):
    return Block(nn.Sequential(nn.Linear(num_in, num_out), nn.Sigmoid(), Bernoulli(), *more))


def toy(a, **options):
    """One unit with the pre-activation ``a``, whatever comes in."""
    rule = make_rule(build, hidden(1, 1), (1,), **options)
    nn.init.zeros_(rule.block.body[0].weight)
    nn.init.constant_(rule.block.body[0].bias, a)
    return rule


def draw(rule, num_draws=DRAWS):
    """The loss of each draw's outcome, told to the unit; returns the gradient by a of each draw."""
    b, context = rule(torch.zeros(num_draws, 1, dtype=torch.float64), None)
    losses = torch.where(b > 0, LOSSES[1], LOSSES[0])
    rule.zero_grad()
    rule.learn(context, (losses,))
    baseline = 0.0 if not rule.adjusted else toy_baseline(rule)
    return rule.block.body[0].bias.grad.item(), ((losses - baseline) * context[1]).squeeze(1)


def toy_baseline(rule):
    return (rule.weighted_losses / rule.squares).item()


@pytest.mark.parametrize("a", [-1.0, 0.3, 2.0])
def test_o_e1_the_mean_over_draws_is_the_gradient_of_the_expected_loss(a):
    """O-E1: REINFORCE's mean over 100 000 draws of a unit is p (1 - p) (f(1) - f(0)), within 3 standard errors."""
    torch.manual_seed(0)
    found, deltas = draw(toy(a))
    p = torch.sigmoid(torch.tensor(a, dtype=torch.float64)).item()
    expected = p * (1 - p) * (LOSSES[1] - LOSSES[0])
    error = deltas.std().item() / DRAWS**0.5
    assert abs(found - expected) < 3 * error and 3 * error < 0.05 * abs(expected)
    assert found == pytest.approx(deltas.mean().item())


@pytest.mark.parametrize("a", [-1.0, 0.3, 2.0])
def test_o_e2_the_adjusted_one_has_the_same_mean_and_less_variance(a):
    """O-E2: with the adjustment REINFORCE has the same mean and less than a fifth of the variance."""
    torch.manual_seed(0)
    _, plain = draw(toy(a))
    rule = toy(a, adjusted=True, decay=0.0)
    draw(rule)  # the first batch has no past
    found, deltas = draw(rule)
    p = torch.sigmoid(torch.tensor(a, dtype=torch.float64)).item()
    expected = p * (1 - p) * (LOSSES[1] - LOSSES[0])
    assert abs(found - expected) < 3 * deltas.std().item() / DRAWS**0.5
    assert deltas.var() < 0.2 * plain.var()
    # E[(b-p)^2 l] / E[(b-p)^2] of one unit: the losses of its two outcomes, each weighted by the other's probability.
    assert toy_baseline(rule) == pytest.approx((1 - p) * LOSSES[1] + p * LOSSES[0], rel=0.02)


@pytest.mark.parametrize("closed_form", [True, False])
def test_every_hidden_block_hears_the_loss_of_each_sample(closed_form):
    blocks = [hidden(6, 8), hidden(8, 7), read_out((7,))]
    rules = make_rules(build, blocks, (6,))
    for rule in rules:
        if not closed_form:
            rule.leave_to_autograd()
        assert (rule.dense is not None) == closed_form
    x, y = batch((6,))
    torch.manual_seed(3)
    learn_chain(rules, x, y)
    torch.manual_seed(3)
    with torch.no_grad():
        ins, outs, h = [], [], x
        for block in blocks:
            ins.append(h)
            h = block(h)
            outs.append(h)
    task = Classification(CLASSES)
    losses = task.sample_losses(h, y)
    for block, x_in, b in zip(blocks[:-1], ins, outs):
        p = block.body[0](x_in).sigmoid()
        # The gradient of mean(l log P(b)), in which the losses are constants.
        chance = torch.where(b > 0, p, 1 - p).log().sum(1)
        assert_same(gradients(block), torch.autograd.grad((losses * chance).mean(), list(block.parameters())))
    last = torch.autograd.grad(task.loss(blocks[-1](ins[-1]), y), list(blocks[-1].parameters()))
    assert_same(gradients(blocks[-1]), last)


def test_the_message_is_one_number_per_sample():
    rules = make_rules(build, [hidden(6, 8), read_out((8,))], (6,))
    x, y = batch((6,))
    h, _ = rules[0](x, y)
    out, context = rules[1](h, y)
    learned = rules[1].learn(context, (), weight=0.5)
    (message,) = learned.upstream
    assert message.shape == (16, 1) and not message.requires_grad
    torch.testing.assert_close(message.mean() * 2, learned.loss)


def test_a_running_baseline_follows_and_weighs_as_the_losses_do():
    rule = toy(0.3, adjusted=True, decay=0.5)
    means = []
    for _ in range(2):
        b, context = rule(torch.zeros(4, 1, dtype=torch.float64), None)
        squares = context[1] ** 2
        means.append(((squares * 3.0).mean().item(), squares.mean().item()))
        rule.learn(context, (torch.full((4, 1), 3.0 * 0.25, dtype=torch.float64),), weight=0.25)
    assert rule.weighted_losses.item() == pytest.approx(0.25 * means[0][0] + 0.5 * means[1][0])
    assert rule.squares.item() == pytest.approx(0.25 * means[0][1] + 0.5 * means[1][1])
    assert toy_baseline(rule) == pytest.approx(3.0)
    rule.zero_grad()
    _, context = rule(torch.zeros(4, 1, dtype=torch.float64), None)
    rule.learn(context, (torch.full((4, 1), 0.75, dtype=torch.float64),), weight=0.25)
    assert rule.block.body[0].bias.grad.item() == pytest.approx(0.0, abs=1e-15)  # a loss like any other


def test_convolutions_with_normalisation_and_pooling():
    layers = nn.Conv2d(2, 3, 3, bias=False), nn.BatchNorm2d(3), nn.Sigmoid(), Bernoulli()
    rule = make_rule(build, Block(nn.Sequential(*layers), nn.MaxPool2d(2)), (2, 6, 6), adjusted=True)
    x, y = batch((2, 6, 6))
    out, context = rule(x, y)
    losses = torch.rand(16, 1, dtype=torch.float64)
    rule.learn(context, (losses,))
    a = rule.block.body[:2](x)
    delta = losses.view(16, 1, 1, 1) * context[1] / 16
    assert_same(gradients(rule), torch.autograd.grad(a, list(rule.block.parameters()), delta))
    assert rule.squares.shape == (3, 4, 4) and out.shape == (16, 3, 2, 2)


@pytest.mark.parametrize(
    ("layers", "text"),
    [
        ([nn.Tanh()], r"reinforce trains blocks .* logistic Bernoulli unit \(given: a block that draws nothing, "),
        ([nn.Tanh(), Bernoulli()], r"given: Tanh and Bernoulli, expected"),
        ([nn.Sigmoid(), Bernoulli(), nn.Linear(3, 3)], r"given: Sigmoid and Bernoulli, Linear with parameters behind"),
    ],
)
def test_blocks_that_draw_nothing(layers, text):
    with pytest.raises(ValueError, match=text):
        make_rule(build, Block(nn.Sequential(nn.Linear(3, 3), *layers)), (3,))


def test_a_rate_that_would_climb():
    with pytest.raises(ValueError, match=r"given: rule.hidden_rate = -0.1, expected: at least 0\). Change it."):
        toy(0.0, hidden_rate=-0.1)


def test_a_running_mean_that_never_moves():
    with pytest.raises(ValueError, match=r"given: rule.decay = 1.0, expected: at least 0, below 1\). Change it."):
        toy(0.0, decay=1.0)


def test_hidden_blocks_may_have_a_rate_of_their_own():
    rules = make_rules(build, [hidden(6, 8), read_out((8,))], (6,), hidden_rate=0.1)
    assert [factor for rule in rules for _, factor in rule.parameter_groups()] == [0.1, 1.0]
    assert all(len(rule.parameter_groups()[0][0]) == 2 for rule in rules)
    rules[0].block.body[0].bias.requires_grad_(False)
    assert rules[0].parameter_groups() == [([rules[0].block.body[0].weight], 0.1)]


def test_a_block_of_fixed_weights_learns_nothing():
    blocks = [hidden(6, 9), hidden(9, 8), read_out((8,))]
    blocks[0].requires_grad_(False)
    rules = make_rules(build, blocks, (6,))
    learn_chain(rules, *batch((6,)))
    assert gradients(blocks[0]) == [None, None] and all(g is not None for g in gradients(blocks[1]))
