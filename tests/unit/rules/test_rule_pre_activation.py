"""Direct feedback alignment whose error enters at the pre-activation, for nonlinearities without a derivative."""

import pytest
import torch
from rule_builders import CLASSES, assert_same, batch, conv, dense, gradients, learn_chain, make_rules, read_out
from torch import nn

from pipeline.network.block import Block
from pipeline.rules.dfa import build


class Sign(nn.Module):
    """A threshold unit; torch gives it the derivative 0."""

    def forward(self, x):
        return x.sign()


def hidden(block, in_shape, **options):
    """The rule of a first of two blocks, and an error for it."""
    rule = make_rules(build, [block], in_shape, num_blocks=2, **{"inject": "pre", **options})[0]
    return rule, torch.randn(16, CLASSES, dtype=torch.float64)


def test_o_f4_is_dfa_where_the_nonlinearity_has_derivative_one():
    """O-F4: with the error at the pre-activation, dfa is plain dfa where the unit's derivative is 1, bit for bit."""
    blocks = [dense(6, 8, None), dense(8, 9, None), read_out((9,))]
    found = []
    for inject in ("out", "pre"):
        torch.manual_seed(1)
        rules = make_rules(build, blocks, (6,), inject=inject)
        for rule in rules:
            rule.zero_grad()
        learn_chain(rules, *batch((6,)))
        found.append([g.clone() for rule in rules for g in gradients(rule)])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_threshold_units_learn_by_the_plain_formula():
    rule, error = hidden(dense(6, 8, Sign), (6,))
    x, y = batch((6,))
    out, context = rule(x, y)
    assert torch.equal(out.abs(), torch.ones(16, 8, dtype=torch.float64)) and torch.equal(out, rule.block(x))
    rule.learn(context, (error,))
    delta = error @ rule.matrix
    assert_same(gradients(rule), [delta.t() @ x, delta.sum(0)])


def test_at_the_output_threshold_units_learn_nothing():
    """The negative of the test above: what the other place of injection does to a threshold."""
    rule, error = hidden(dense(6, 8, Sign), (6,), inject="out")
    x, y = batch((6,))
    rule.learn(rule(x, y)[1], (error,))
    assert not any(g.any() for g in gradients(rule))


def test_the_nonlinearitys_derivative_does_not_enter():
    rule, error = hidden(dense(6, 8, nn.Tanh), (6,))
    x, y = batch((6,))
    rule.learn(rule(x, y)[1], (error,))
    assert_same(gradients(rule), [(error @ rule.matrix).t() @ x, (error @ rule.matrix).sum(0)])


def test_convolution_normalised_and_pooled_gets_the_error_in_front_of_the_nonlinearity():
    rule, error = hidden(conv(2, 4, pool=True), (2, 6, 6))
    assert rule.matrix.shape == (CLASSES, 4 * 6 * 6)
    assert 0.9 / 12 < rule.matrix.abs().max() <= 1 / 12
    x, y = batch((2, 6, 6))
    out, context = rule(x, y)
    assert torch.equal(out, rule.block(x)) and out.shape == (16, 4, 3, 3)
    gamma = (error @ rule.matrix).view(16, 4, 6, 6)
    expected = torch.autograd.grad(rule.block.body[1](rule.block.body[0](x)), list(rule.parameters()), gamma)
    rule.learn(context, (error,))
    assert_same(gradients(rule), expected)


def test_layers_in_front_of_the_affine_one_keep_exact_gradients():
    rule, error = hidden(Block(nn.Sequential(nn.BatchNorm1d(6), nn.Sequential(nn.Linear(6, 8), Sign()))), (6,))
    x, y = batch((6,))
    rule.learn(rule(x, y)[1], (error,))
    a = rule.block.body[1][0](rule.block.body[0](x))
    assert_same(gradients(rule), torch.autograd.grad(a, list(rule.parameters()), error @ rule.matrix))


def test_a_nonlinearity_that_works_in_place_changes_nothing():
    found = []
    for inplace in (False, True):
        torch.manual_seed(2)
        block = Block(nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(inplace=inplace)))
        rule, error = hidden(block, (6,))
        out, context = rule(*batch((6,)))
        rule.learn(context, (error,))
        found.append([out, *gradients(rule)])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_learns_with_forward_time_gradients_after_the_weights_moved():
    rule, error = hidden(dense(6, 8, Sign), (6,))
    x, y = batch((6,))
    rule.learn(rule(x, y)[1], (error,))
    expected = [g.clone() for g in gradients(rule)]
    rule.zero_grad()
    _, context = rule(x, y)
    with torch.no_grad():
        for parameter in rule.parameters():
            parameter.neg_()
    rule.learn(context, (error,))
    assert all(torch.equal(a, b) for a, b in zip(gradients(rule), expected, strict=True))


def test_the_last_block_takes_any_form():
    top = Block(nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, CLASSES)))
    rules = make_rules(build, [dense(6, 6, Sign), top], (6,), inject="pre")
    x, y = batch((6,))
    learn_chain(rules, x, y)
    h = rules[0].block(x)
    expected = torch.autograd.grad(rules[1].spec.task.loss(top(h), y), list(top.parameters()))
    assert_same(gradients(rules[1]), expected)


def test_finding_the_size_touches_no_statistics():
    block = Block(nn.Sequential(nn.BatchNorm1d(6), nn.Linear(6, 8), Sign()))
    rule, _ = hidden(block, (6,))
    assert block.body[0].training and block.body[0].num_batches_tracked == 0
    assert rule.matrix.shape == (CLASSES, 8)


def test_takes_a_padding_that_needs_no_way_back():
    rule, error = hidden(Block(nn.Sequential(nn.Conv2d(2, 3, 3, padding="same"), Sign())), (2, 4, 4))
    x, y = batch((2, 4, 4))
    rule.learn(rule(x, y)[1], (error,))
    assert gradients(rule)[0].any()


def test_refuses_parameters_that_no_error_would_reach():
    block = Block(nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.PReLU(), nn.LayerNorm(8)))
    with pytest.raises(ValueError, match=r"dfa with inject = 'pre' does not train.*given: PReLU, LayerNorm with param"
                                         r".*expected: parameters in the affine layer.*enter at the block's output"):
        hidden(block, (6,))


def test_refuses_a_block_without_one_affine_layer():
    block = Block(nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 8)))
    with pytest.raises(ValueError, match="dfa with inject = 'pre' cannot find.*given: a block with 2 affine layers"):
        hidden(block, (6,))
