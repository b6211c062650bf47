"""The three sign-symmetric rules: what follows the weights' signs, what is fixed and what is drawn anew."""

from functools import partial

import pytest
import torch
from rule_builders import assert_same, batch, conv, dense, gradients, learn_chain, make_rules, read_out, true_gradients
from torch import nn

from pipeline.learning.rule import Topology
from pipeline.network.block import Block
from pipeline.rules import brsf, frsf, usf

BUILDS = {"usf": usf.build, "brsf": brsf.build, "frsf": frsf.build}
XAVIER, FAN_IN = (2 / (6 + 7)) ** 0.5, 1 / 6**0.5


@pytest.fixture(params=BUILDS)
def build(request):
    return BUILDS[request.param]


def middle(build, **options):
    """The rule of a linear block, 6 to 7, between two others."""
    return make_rules(build, [dense(4, 6, None), dense(6, 7, None), read_out((7,))], (4,), **options)[1]


def sent_matrix(rule, seed=0):
    """B: the message that answers a unit error of each output."""
    _, context = rule(*batch((6,), size=7))
    torch.manual_seed(seed)
    return rule.learn(context, (torch.eye(7, dtype=torch.float64),)).upstream[0]


def weight_of(rule):
    return rule.split.affine.weight.detach()


def test_o_f6_signs_are_those_of_the_weights(build):
    """O-F6: usf, brsf and frsf send the error through a matrix with the signs of the weights."""
    rule = middle(build)
    for _ in range(2):
        matrix = sent_matrix(rule)
        assert matrix.shape == (7, 6) and matrix.all()
        assert torch.equal(matrix.sign(), weight_of(rule).sign())
        weight_of(rule).neg_()


@pytest.mark.parametrize(("scale", "expected"), [("xavier", XAVIER), ("fan_in", FAN_IN)])
def test_o_f6_usf_has_one_magnitude(scale, expected):
    """O-F6: all magnitudes of usf are the one that its scale says."""
    rule = middle(usf.build, scale=scale)
    torch.testing.assert_close(sent_matrix(rule).abs(), torch.full((7, 6), expected, dtype=torch.float64))


def test_o_f6_frsf_magnitudes_are_constant_in_time():
    """O-F6: magnitudes of frsf stay as they are when the weights change."""
    rule = middle(frsf.build)
    before = sent_matrix(rule, seed=1)
    weight_of(rule).normal_()
    after = sent_matrix(rule, seed=2)
    assert torch.equal(before.abs(), after.abs()) and torch.equal(before.abs(), rule.matrix)
    assert not torch.equal(before, after)


def test_o_f6_brsf_magnitudes_are_drawn_anew_from_the_micro_batchs_seed():
    """O-F6: magnitudes of brsf are drawn anew for each micro-batch, and the same from the same seed."""
    rule = middle(brsf.build)
    first, again, other = (sent_matrix(rule, seed) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert ((first - other).abs() > 0).all()


@pytest.mark.parametrize("name", ["brsf", "frsf"])
@pytest.mark.parametrize("scale", ["xavier", "fan_in"])
def test_magnitudes_are_those_of_a_uniform_matrix_with_the_scale_as_its_deviation(name, scale):
    rules = make_rules(BUILDS[name], [conv(2, 40), conv(40, 60), read_out((60, 4, 4))], (2, 4, 4), scale=scale)
    found = rules[1].magnitudes()
    fan_in, fan_out = 40 * 9, 60 * 9
    expected = (2 / (fan_in + fan_out)) ** 0.5 if scale == "xavier" else 1 / fan_in**0.5
    assert found.shape == (60, 40, 3, 3) and found.min() >= 0
    assert 0.999 < found.max() / (expected * 3**0.5) <= 1 + 1e-6
    assert found.square().mean().sqrt() / expected == pytest.approx(1, abs=0.02)


def networks():
    dense_net = [dense(6, 8, norm=True), dense(8, 9, norm=True), dense(9, 7, nn.ReLU), read_out((7,))]
    strided = Block(nn.Sequential(nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2), nn.Tanh()))
    conv_net = [conv(2, 4), conv(4, 4, pool=True), strided, read_out((6, 2, 2))]
    return {"dense": (dense_net, (6,)), "conv": (conv_net, (2, 7, 7))}


@pytest.mark.parametrize("network", ["dense", "conv"])
def test_o_f6_the_weights_own_magnitudes_give_backprop(build, network):
    """O-F6: with the weights' own magnitudes all three rules are backpropagation."""
    blocks, in_shape = networks()[network]
    rules = make_rules(build, blocks, in_shape)
    for rule in rules:
        rule.magnitudes = partial(torch.abs, weight_of(rule))
    x, y = batch(in_shape)
    expected = true_gradients(blocks, x, y, rules[0].spec.task.loss)
    learn_chain(rules, x, y)
    for rule, grads in zip(rules, expected, strict=True):
        for given, wanted in zip(gradients(rule), grads, strict=True):
            torch.testing.assert_close(given, wanted, rtol=1e-10, atol=1e-14)


def test_the_message_changes_and_the_own_gradient_does_not(build):
    blocks = [dense(6, 8), read_out((8,))]
    rules = make_rules(build, blocks, (6,))
    x, y = batch((6,))
    expected = true_gradients(blocks, x, y, rules[0].spec.task.loss)
    learn_chain(rules, x, y)
    assert_same(gradients(rules[1]), expected[1])
    assert (gradients(rules[0])[0] - expected[0][0]).abs().max() > 1e-3
    assert rules[0].topology is Topology.NEIGHBOUR


def test_layers_in_front_of_the_affine_one_get_the_message_too(build):
    """Also in the first block, which sends nothing."""
    rule = make_rules(build, [Block(nn.Sequential(nn.LayerNorm(6), nn.Linear(6, 7))), read_out((7,))], (6,))[0]
    _, context = rule(*batch((6,), size=7))
    torch.manual_seed(3)
    assert rule.learn(context, (torch.eye(7, dtype=torch.float64),)).upstream == ()
    torch.manual_seed(3)
    torch.testing.assert_close(rule.block.body[0].bias.grad, rule.feedback_matrix(rule.note()).sum(0))


def test_late_feedback_meets_the_signs_and_gradients_of_the_forward_pass(build):
    rule = make_rules(build, [dense(4, 6), dense(6, 7), read_out((7,))], (4,))[1]
    x, y = batch((6,))
    gamma = torch.randn(16, 7, dtype=torch.float64)

    def learned(context):
        rule.zero_grad()
        torch.manual_seed(3)
        return rule.learn(context, (gamma,)).upstream[0], [g.clone() for g in gradients(rule)]

    before, expected = learned(rule(x, y)[1])
    _, context = rule(x, y)
    weight_of(rule).neg_()
    after, grads = learned(context)
    assert torch.equal(before, after)
    assert all(torch.equal(a, b) for a, b in zip(grads, expected, strict=True))
    assert not torch.equal(learned(rule(x, y)[1])[0], before)


def test_signs_are_held_in_a_byte_each_and_only_where_they_are_needed(build):
    rules = make_rules(build, [dense(4, 6), dense(6, 7), read_out((7,))], (4,))
    x, y = batch((4,))
    noted = []
    for rule in rules:
        x, context = rule(x, y)
        noted.append(context[-1])
    assert noted[0] is None
    assert [n.dtype for n in noted[1:]] == [torch.int8] * 2 and noted[1].shape == (7, 6)
    assert rules[1].eval()(batch((6,))[0], y)[1][-1] is None


def test_a_weight_of_zero_sends_nothing(build):
    rule = middle(build)
    weight_of(rule)[2, 3] = 0
    zeros = sent_matrix(rule) == 0
    assert zeros[2, 3] and zeros.sum() == 1


def test_only_fixed_magnitudes_are_part_of_the_state(build):
    rules = make_rules(build, [dense(4, 6), dense(6, 7), read_out((7,))], (4,))
    own = [sorted(set(rule.state_dict()) - {f"block.{k}" for k in rule.block.state_dict()}) for rule in rules]
    assert own == ([[], ["matrix"], ["matrix"]] if build is frsf.build else [[]] * 3)
    assert not any("matrix" in name for rule in rules for name, _ in rule.named_parameters())


def test_refuses_a_block_it_cannot_go_back_through(build):
    name = build.__module__.rpartition(".")[2]
    with pytest.raises(ValueError, match=f"{name} cannot find the affine layer.*given: a block with 0 affine layers"):
        make_rules(build, [Block(nn.Tanh())], (4,), num_blocks=2)
