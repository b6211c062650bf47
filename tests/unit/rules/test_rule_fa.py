"""Feedback alignment against backpropagation and autograd."""

import pytest
import torch
from rule_builders import assert_same, batch, conv, dense, gradients, learn_chain, make_rules, read_out, true_gradients
from torch import nn

from pipeline.data.task import Classification, Task
from pipeline.learning.rule import Topology
from pipeline.network.block import Block
from pipeline.rules.fa import build


def with_weights(rules):
    """Copies every weight into the feedback matrix that stands for it."""
    for rule in rules[1:]:
        rule.matrix.copy_(rule.split.affine.weight.detach())
    return rules


def test_o_f1_fa_with_the_weights_is_backprop_dense():
    """O-F1: feedback alignment with the weights for its matrices is backpropagation, in dense blocks."""
    blocks = [dense(6, 8, norm=True), dense(8, 9, norm=True), dense(9, 7, nn.ReLU), read_out((7,))]
    rules = with_weights(make_rules(build, blocks, (6,)))
    x, y = batch((6,))
    expected = true_gradients(blocks, x, y, rules[0].spec.task.loss)
    learn_chain(rules, x, y)
    for rule, grads in zip(rules, expected, strict=True):
        for given, wanted in zip(gradients(rule), grads, strict=True):
            torch.testing.assert_close(given, wanted, rtol=1e-10, atol=1e-14)


def test_o_f1_fa_with_the_weights_is_backprop_conv():
    """O-F1: feedback alignment with the weights for its matrices is backpropagation, in convolutional blocks."""
    strided = Block(nn.Sequential(nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2, dilation=1), nn.Tanh()))
    blocks = [conv(2, 4), conv(4, 4, pool=True), strided, read_out((6, 2, 2))]
    rules = with_weights(make_rules(build, blocks, (2, 7, 7)))
    x, y = batch((2, 7, 7))
    expected = true_gradients(blocks, x, y, rules[0].spec.task.loss)
    learn_chain(rules, x, y)
    for rule, grads in zip(rules, expected, strict=True):
        for given, wanted in zip(gradients(rule), grads, strict=True):
            torch.testing.assert_close(given, wanted, rtol=1e-10, atol=1e-14)


def test_random_matrix_changes_the_message_and_not_the_own_gradient():
    blocks = [dense(6, 8), read_out((8,))]
    rules = make_rules(build, blocks, (6,))
    x, y = batch((6,))
    expected = true_gradients(blocks, x, y, rules[0].spec.task.loss)
    learn_chain(rules, x, y)
    assert_same(gradients(rules[1]), expected[1])
    assert (rules[0].split.affine.weight.grad - expected[0][0]).abs().max() > 1e-3


@pytest.mark.parametrize("affine", [nn.Linear(8, 9), nn.Linear(8, 9, bias=False)])
def test_fixed_weights_hand_the_error_down_as_others_do(affine):
    """Behind them a layer that works in place, and one that learns."""
    sent = {}
    for fixed in (False, True):
        torch.manual_seed(0)
        body = nn.Sequential(type(affine)(8, 9, bias=affine.bias is not None), nn.ReLU(inplace=True), nn.BatchNorm1d(9))
        body[0].requires_grad_(not fixed)
        rules = make_rules(build, [dense(6, 8), Block(body), read_out((9,))], (6,))
        rules[1].matrix.fill_(0.1)
        x, y = batch((6,))
        learn_chain(rules, x, y)
        sent[fixed] = gradients(rules[0]) + [body[2].weight.grad]
        assert (body[0].weight.grad is None) == fixed
    assert_same(sent[True], sent[False])


def test_layers_with_parameters_before_the_affine_one_keep_exact_gradients():
    first = Block(nn.Sequential(nn.BatchNorm1d(6), nn.Sequential(nn.Linear(6, 8), nn.Tanh())))
    second = Block(nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 8)), nn.Tanh())
    blocks = [first, second, read_out((8,))]
    rules = make_rules(build, blocks, (6,))
    for rule in rules:
        rule.matrix.copy_(rule.split.affine.weight.detach())
    x, y = batch((6,))
    expected = true_gradients(blocks, x, y, rules[0].spec.task.loss)
    learn_chain(rules, x, y)
    for rule, grads in zip(rules, expected, strict=True):
        assert_same(gradients(rule), grads, rtol=1e-9)


def test_delta_is_the_pre_activations_though_the_nonlinearity_works_in_place():
    blocks = [dense(4, 6), Block(nn.Sequential(nn.Linear(6, 6), nn.ReLU(inplace=True))), read_out((6,))]
    rules = with_weights(make_rules(build, blocks, (4,)))
    x, y = batch((4,))
    expected = true_gradients(blocks, x, y, rules[0].spec.task.loss)
    learn_chain(rules, x, y)
    assert_same(gradients(rules[0]), expected[0])


def test_matrix_is_a_buffer_bounded_by_the_fan_in():
    rules = make_rules(build, [conv(2, 4), conv(4, 6), read_out((6, 4, 4))], (2, 4, 4))
    assert not any("matrix" in name for name, _ in rules[1].named_parameters())
    assert "matrix" not in rules[0].state_dict()
    assert rules[1].matrix.shape == (6, 4, 3, 3)
    bound = 1 / 36**0.5
    assert 0.9 * bound < rules[1].matrix.abs().max() <= bound
    assert rules[1].topology is Topology.NEIGHBOUR


def test_learns_with_forward_time_gradients_after_the_weights_moved():
    """Class X1: neither the message nor the gradient needs the weight again, so no copy of it is held."""
    rule = make_rules(build, [dense(4, 6), dense(6, 7), read_out((7,))], (4,))[1]
    x, y = batch((6,))
    gamma = torch.randn(16, 7, dtype=torch.float64)
    before = rule.learn(rule(x, y)[1], (gamma,)).upstream[0]
    expected = [g.clone() for g in gradients(rule)]
    rule.zero_grad()
    _, context = rule(x, y)
    with torch.no_grad():
        for parameter in rule.parameters():
            parameter.add_(1.0)
    after = rule.learn(context, (gamma,)).upstream[0]
    assert torch.equal(before, after)
    assert all(torch.equal(a, b) for a, b in zip(gradients(rule), expected, strict=True))


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x):
        return x + self.linear(x)


@pytest.mark.parametrize(
    ("body", "given"),
    [
        (nn.Tanh(), "0 affine layers, 0 of them"),
        (nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)), "2 affine layers, 2 of them"),
        (Residual(), "1 affine layers, 0 of them"),
    ],
)
def test_refuses_a_block_without_one_plain_affine_layer(body, given):
    with pytest.raises(ValueError, match=f"given: a block with {given}.*expected: exactly one.*block of its own"):
        make_rules(build, [Block(body)], (4,), num_blocks=2)


@pytest.mark.parametrize("options", [{"padding": "same"}, {"padding": 1, "padding_mode": "circular"}])
def test_refuses_a_padding_it_cannot_go_back_through(options):
    block = Block(nn.Conv2d(2, 2, 3, **options))
    with pytest.raises(ValueError, match="given: padding=.*expected: numbers, 'zeros'.*in pixels"):
        make_rules(build, [block], (2, 4, 4), num_blocks=2)


class Regression(Task):
    """Half the squared error of a linear target, whose matrix stands in for labels."""

    num_outputs = 10

    def loss(self, scores, labels):
        return 0.5 * (scores - labels).square().sum(1).mean()

    def error(self, scores, labels):
        return (scores - labels) / len(labels)

    targets = num_correct = None


Regression.__abstractmethods__ = frozenset()


def test_o_f7_linear_toy_aligns_with_backprop():
    """O-F7: in a linear 30-20-10 net the angle of the hidden error to backpropagation's falls below 60 degrees."""
    torch.manual_seed(0)
    layers = [Block(nn.Linear(30, 20, bias=False)), Block(nn.Linear(20, 10, bias=False))]
    rules = make_rules(build, layers, (30,), Regression())
    for rule in rules:
        nn.init.uniform_(rule.split.affine.weight, -0.01, 0.01)
    rules[1].matrix.uniform_(-0.5, 0.5)
    wanted = torch.empty(10, 30, dtype=torch.float64).uniform_(-1, 1)
    optimizer = torch.optim.SGD([p for rule in rules for p in rule.parameters()], lr=0.02)
    angles = []
    for step in range(600):
        x = torch.randn(32, 30, dtype=torch.float64)
        y = x @ wanted.t()
        if step % 100 == 0 or step == 599:
            error = y - rules[1].block(rules[0].block(x))
            a, b = error @ rules[1].matrix, error @ rules[1].split.affine.weight
            cosine = (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1))
            angles.append(torch.rad2deg(cosine.acos()).mean().item())
        optimizer.zero_grad()
        learn_chain(rules, x, y)
        optimizer.step()
    assert angles[0] > 70
    assert angles[-1] < 60
    assert all(later < earlier + 5 for earlier, later in zip(angles, angles[1:]))


def test_last_block_is_a_plain_classifier():
    rule = make_rules(build, [read_out((3,))], (3,), Classification(5))[0]
    x, y = batch((3,))
    out, context = rule(x, y)
    learned = rule.learn(context, ())
    assert torch.equal(learned.loss, rule.spec.task.loss(out, y)) and learned.upstream == ()
    assert torch.equal(rule.decode(context), out)
