"""Straight-through, sigmoid-adjusted and slope annealing: what each takes for the derivative of a hard unit."""

from functools import partial

import pytest
import torch
from rule_builders import (
    CLASSES,
    assert_same,
    batch,
    conv,
    dense,
    gradients,
    learn_chain,
    make_rule,
    make_rules,
    read_out,
    true_gradients,
)
from torch import nn

from pipeline.data.task import Classification
from pipeline.models import mlp
from pipeline.network.block import Block
from pipeline.network.hard_units import Bernoulli, LocalWinner, Sign, Step
from pipeline.rules import backprop, sigmoid_adjusted, slope_annealing, straight_through

RULES = {
    "straight_through": straight_through, "sigmoid_adjusted": sigmoid_adjusted, "slope_annealing": slope_annealing,
}  # fmt: skip
LOSS = Classification(CLASSES).loss


def hidden(num_in, num_out, *unit):
    return Block(nn.Sequential(nn.Linear(num_in, num_out), *unit))


class Given(torch.autograd.Function):
    """Values from outside, and the derivative that is asked for."""

    @staticmethod
    def forward(ctx, a, values, derivative):
        ctx.derivative = derivative
        return values.clone()

    @staticmethod
    def backward(ctx, grad):
        return grad * ctx.derivative, None, None


def by_autograd(blocks, x, y, outs, derivative):
    """Gradients with the forward pass's own samples ``outs`` and a given derivative of every hidden unit."""
    h = x
    for block, out in zip(blocks[:-1], outs):
        a = block.body[0](h)
        h = Given.apply(a, out, derivative(a.detach()))
    parameters = [p for block in blocks for p in block.parameters()]
    return torch.autograd.grad(LOSS(blocks[-1](h), y), parameters)


def sigmoid_prime(a, slope=1.0):
    p = torch.sigmoid(slope * a)
    return slope * p * (1 - p)


DERIVATIVES = {
    "straight_through": torch.ones_like,
    "sigmoid_adjusted": sigmoid_prime,
    "slope_annealing": partial(sigmoid_prime, slope=1.4),
}


@pytest.mark.parametrize("closed_form", [True, False])
@pytest.mark.parametrize("name", RULES)
def test_o_e2_gradients_are_those_of_the_unit_with_the_estimate_for_its_derivative(name, closed_form):
    """O-E2: gradients are backpropagation's, at the samples drawn, with the estimate for the derivative of the unit."""
    blocks = [hidden(6, 8, nn.Sigmoid(), Bernoulli()), hidden(8, 7, nn.Sigmoid(), Bernoulli()), read_out((7,))]
    rules = make_rules(RULES[name].build, blocks, (6,))
    for rule in rules:
        if not closed_form:
            rule.leave_to_autograd()
        assert (rule.dense is not None) == closed_form
        rule.begin_epoch(10)
    x, y = batch((6,))
    torch.manual_seed(3)
    learn_chain(rules, x, y)
    torch.manual_seed(3)
    outs = [x]
    with torch.no_grad():
        for rule in rules[:-1]:
            outs.append(rule(outs[-1], y)[0])
    expected = by_autograd(blocks, x, y, outs[1:], DERIVATIVES[name])
    assert_same([p.grad for block in blocks for p in block.parameters()], expected)
    assert set(outs[1].unique().tolist()) == {0.0, 1.0}


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("unit", [(nn.Tanh, Sign), (nn.Tanh, Step), (nn.Hardtanh, partial(LocalWinner, 2))])
def test_units_behind_another_smooth_part(name, unit):
    f, g = unit[0](), unit[1]()
    blocks = [hidden(6, 8, f, g), read_out((8,))]
    rules = make_rules(RULES[name].build, blocks, (6,))
    x, y = batch((6,))
    learn_chain(rules, x, y)
    a = blocks[0].body[0](x).detach().requires_grad_()
    (slope,) = torch.autograd.grad(f(a).sum(), a)
    derivative = torch.ones_like(a) if name == "straight_through" else slope
    expected = by_autograd(blocks, x, y, [g(f(a)).detach()], lambda _: derivative)
    assert_same([p.grad for block in blocks for p in block.parameters()], expected)


@pytest.mark.parametrize("name", RULES)
def test_without_a_hard_part_it_is_backpropagation(name):
    x, y = batch((2, 4, 4))
    blocks = [conv(2, 3, pool=True), dense(12, 6), read_out((6,))]
    blocks[1].body.insert(0, nn.Flatten())
    rules = make_rules(RULES[name].build, blocks, (2, 4, 4))
    for rule in rules:
        rule.begin_epoch(30)
    learn_chain(rules, x, y)
    for block, expected in zip(blocks, true_gradients(blocks, x, y, LOSS), strict=True):
        assert_same(gradients(block), expected)


@pytest.mark.parametrize("name", RULES)
def test_convolutions_with_normalisation_and_pooling(name):
    """The way back through everything else is exact: sign units with db/da = 1, or tanh'(a), at the pre-activation."""
    body = nn.Sequential(nn.Conv2d(2, 3, 3, bias=False), nn.BatchNorm2d(3), nn.Tanh(), Sign())
    block = Block(body, nn.MaxPool2d(2))
    rule = make_rule(RULES[name].build, block, (2, 4, 4))
    x, y = batch((2, 4, 4))
    out, context = rule(x, y)
    gamma = torch.randn_like(out)
    rule.learn(context, (gamma,))
    a = block.body[:2](x)
    t = a.tanh()
    b = Given.apply(a, t.sign().detach(), torch.ones_like(a) if name == "straight_through" else (1 - t * t).detach())
    expected = torch.autograd.grad(block.outlet(b), list(block.parameters()), gamma)
    assert_same([p.grad for p in block.parameters()], expected)


def test_blocks_that_meet_in_front_of_the_unit_learn_the_same():
    found = []
    for boundary in ("post", "half"):
        torch.manual_seed(0)
        options = {"depth": 2, "width": 7, "norm": "none", "activation": "sign", "boundary": boundary}
        blocks = [b.make() for b in mlp.build((6,), CLASSES, **options)]
        rules = make_rules(straight_through.build, blocks, (6,))
        learn_chain(rules, *batch((6,)))
        found.append([p.grad for block in blocks for p in block.parameters()])
    assert_same(*found)


def test_a_smooth_unit_alone_has_its_own_derivative_and_no_slope():
    rules = make_rules(slope_annealing.build, [dense(6, 8, nn.Sigmoid), read_out((8,))], (6,))
    assert all(rule.slope is None for rule in rules)
    torch.manual_seed(0)
    plain = make_rules(backprop.build, [dense(6, 8, nn.Sigmoid), read_out((8,))], (6,))
    for one, other in zip(rules, plain):
        one.load_state_dict(other.state_dict())
    for chain in (rules, plain):
        learn_chain(chain, *batch((6,)))
    for one, other in zip(rules, plain):
        assert_same(gradients(one), gradients(other))


def test_the_slope_grows_by_the_epoch_up_to_its_limit_and_is_kept_with_the_weights():
    rule = make_rule(slope_annealing.build, hidden(6, 8, nn.Sigmoid(), Bernoulli()), (6,), growth=0.5, limit=2.25)
    slopes = []
    for epoch in range(4):
        rule.begin_epoch(epoch)
        slopes.append(rule.slope.item())
    assert slopes == [1.0, 1.5, 2.0, 2.25]
    assert rule.state_dict()["slope"] == 2.25


def test_evaluation_uses_the_slope_of_training():
    rule = make_rule(slope_annealing.build, hidden(1, 1, nn.Sigmoid(), Bernoulli()), (1,), growth=4.0)
    nn.init.constant_(rule.block.body[0].weight, 1.0)
    nn.init.zeros_(rule.block.body[0].bias)
    rule.begin_epoch(1)
    torch.manual_seed(0)
    with torch.no_grad():
        drawn = rule.eval()(torch.full((10_000, 1), 0.2, dtype=torch.float64), None)[0].mean().item()
    # sigma(5 * 0.2) = 0.731, 3 standard errors of 1e4 draws are 0.013; sigma(0.2) would be 0.550.
    assert drawn == pytest.approx(0.731, abs=0.013)


@pytest.mark.parametrize("layers", [(Sign(), nn.Tanh(), Sign()), (nn.Sequential(nn.Tanh(), Sign()), Sign())])
def test_a_block_has_one_unit(layers):
    with pytest.raises(ValueError, match=r"straight_through cannot find the unit .* a block with 2 parts without a"):
        make_rule(straight_through.build, hidden(3, 4, *layers), (3,))


def test_a_unit_inside_a_module_of_ones_own_is_not_found():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.unit = Sign()

        def forward(self, x):
            return self.unit(x)

    with pytest.raises(ValueError, match=r"a block with 1 parts without a derivative, 0 of them directly"):
        make_rule(straight_through.build, hidden(3, 4, Own()), (3,))


@pytest.mark.parametrize("options", [{"growth": -0.1}, {"limit": 0.5}])
def test_slopes_that_would_fall(options):
    with pytest.raises(ValueError, match=r"starts with the slope 1 and cannot lower it \(given: rule.growth = "):
        make_rule(slope_annealing.build, hidden(3, 4, nn.Sigmoid(), Bernoulli()), (3,), **options)


@pytest.mark.parametrize("name", RULES)
def test_a_dense_block_is_in_closed_form_until_that_is_given_up(name):
    rule = make_rule(RULES[name].build, hidden(6, 8, nn.Sigmoid(), Bernoulli()), (6,))
    assert rule.dense is not None and rule.draws
    rule.leave_to_autograd()
    out, context = rule(*batch((6,)))
    assert rule.dense is None and context[0].requires_grad and not out.requires_grad


@pytest.mark.parametrize("unit", [Sign, Bernoulli])
def test_a_weight_stepped_before_feedback_is_not_the_one_that_is_gone_back_through(unit):
    """What goes down is the error through the forward pass's weight, if the runtime copies what is saved."""
    blocks = [hidden(6, 8, nn.Sigmoid(), unit()), hidden(8, 7, nn.Sigmoid(), unit()), read_out((7,))]
    rule = make_rules(straight_through.build, blocks, (6,))[1]
    before = blocks[1].body[0].weight.detach().clone()
    saved = torch.autograd.graph.saved_tensors_hooks(lambda t: t.clone(), lambda t: t)
    x, y = batch((8,))
    with saved:
        _, context = rule(x, y)
    with torch.no_grad():
        blocks[1].body[0].weight.add_(1.0)
    gamma = torch.randn(16, 7, dtype=torch.float64)
    (upstream,) = rule.learn(context, (gamma,)).upstream
    torch.testing.assert_close(upstream, gamma @ before, rtol=1e-12, atol=1e-14)
