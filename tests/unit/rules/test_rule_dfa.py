"""Direct feedback alignment against backpropagation."""

import torch
from rule_builders import (
    CLASSES,
    assert_same,
    batch,
    conv,
    dense,
    gradients,
    learn_chain,
    make_rules,
    read_out,
    true_gradients,
)
from torch import nn

from pipeline.data.task import Binary
from pipeline.learning.rule import Topology
from pipeline.network.block import Block
from pipeline.rules.dfa import build


def weight_of(block):
    return [m for m in block.modules() if isinstance(m, nn.Linear)][-1].weight.detach()


def test_o_f2_one_hidden_layer_with_the_weight_is_backprop():
    """O-F2: with one hidden layer, direct feedback alignment by the weight above it is backpropagation."""
    blocks = [dense(6, 8, norm=True), read_out((8,))]
    rules = make_rules(build, blocks, (6,))
    rules[0].matrix.copy_(weight_of(blocks[1]))
    x, y = batch((6,))
    expected = true_gradients(blocks, x, y, rules[0].spec.task.loss)
    learn_chain(rules, x, y)
    for rule, grads in zip(rules, expected, strict=True):
        for given, wanted in zip(gradients(rule), grads, strict=True):
            torch.testing.assert_close(given, wanted, rtol=1e-10, atol=1e-14)


def test_o_f3_linear_net_with_the_product_of_weights_is_backprop():
    """O-F3: in a linear net, direct feedback alignment by the products of the weights above is backpropagation."""
    blocks = [dense(6, 8, None), dense(8, 9, None), dense(9, 7, None), read_out((7,))]
    rules = make_rules(build, blocks, (6,))
    product = weight_of(blocks[-1])
    for k in (2, 1, 0):
        rules[k].matrix.copy_(product)
        product = product @ weight_of(blocks[k])
    x, y = batch((6,))
    expected = true_gradients(blocks, x, y, rules[0].spec.task.loss)
    learn_chain(rules, x, y)
    for rule, grads in zip(rules, expected, strict=True):
        assert_same(gradients(rule), grads)


def test_o_f5_from_zero_the_first_step_moves_the_first_weight_and_all_biases():
    """O-F5: from zero, with tanh, the first step moves the first weight and all biases, and the second moves
    everything."""
    blocks = [dense(6, 8), dense(8, 8), read_out((8,))]
    for block in blocks:
        for parameter in block.parameters():
            nn.init.zeros_(parameter)
    rules = make_rules(build, blocks, (6,))
    optimizer = torch.optim.SGD([p for rule in rules for p in rule.parameters()], lr=0.1)
    x, y = batch((6,))
    moved = []
    for _ in range(2):
        optimizer.zero_grad()
        learn_chain(rules, x, y)
        optimizer.step()
        moved.append({name: bool(p.any()) for k, r in enumerate(rules) for name, p in named(k, r)})
    assert all(moved[0][f"{k}.bias"] for k in range(3))
    assert [moved[0][f"{k}.weight"] for k in range(3)] == [True, False, False]
    assert all(moved[1].values())


def named(index, rule):
    return [(f"{index}.{name.rpartition('.')[2]}", p) for name, p in rule.named_parameters()]


def test_error_enters_behind_the_pooling_and_the_block_is_exact():
    blocks = [conv(2, 4, pool=True), read_out((4, 3, 3))]
    rules = make_rules(build, blocks, (2, 6, 6))
    x, y = batch((2, 6, 6))
    out, context = rules[0](x, y)
    error = torch.randn(16, CLASSES, dtype=torch.float64)
    gamma = (error @ rules[0].matrix).reshape(16, 4, 3, 3)
    expected = torch.autograd.grad(blocks[0](x), list(blocks[0].parameters()), gamma)
    assert rules[0].learn(context, (error,)).upstream == ()
    assert all(torch.equal(a, b) for a, b in zip(gradients(rules[0]), expected, strict=True))


def test_last_block_broadcasts_the_weighted_error_of_a_binary_task():
    rule = make_rules(build, [dense(2, 3), read_out((3,), 1)], (2,), Binary())[1]
    x, y = batch((3,), num_classes=2)
    _, context = rule(x, y)
    learned = rule.learn(context, (), weight=0.5)
    out = rule.block(x).detach().requires_grad_()
    expected = torch.autograd.grad(Binary().loss(out, y) * 0.5, out)
    assert_same(learned.upstream, expected)
    assert learned.upstream[0].shape == (16, 1)
    assert rule.topology is Topology.BROADCAST and rule.learns_at_once


def test_matrix_is_a_buffer_bounded_by_the_fan_out():
    rules = make_rules(build, [conv(2, 4, pool=True), read_out((4, 2, 2))], (2, 4, 4))
    assert rules[0].matrix.shape == (CLASSES, 16)
    assert 0.2 < rules[0].matrix.abs().max() <= 0.25
    assert "matrix" in rules[0].state_dict() and "matrix" not in rules[1].state_dict()
    assert not any("matrix" in name for name, _ in rules[0].named_parameters())


def test_learns_with_forward_time_gradients_after_the_weights_moved():
    """Class X1 for a block of one affine layer; with BatchNorm its scale would have to be held as well."""
    rule = make_rules(build, [dense(4, 6), dense(6, 7), read_out((7,))], (4,))[1]
    x, y = batch((6,))
    error = torch.randn(16, CLASSES, dtype=torch.float64)
    rule.learn(rule(x, y)[1], (error,))
    expected = [g.clone() for g in gradients(rule)]
    rule.zero_grad()
    _, context = rule(x, y)
    with torch.no_grad():
        for parameter in rule.parameters():
            parameter.add_(1.0)
    rule.learn(context, (error,))
    assert all(torch.equal(a, b) for a, b in zip(gradients(rule), expected, strict=True))


def test_only_the_last_block_decodes():
    rules = make_rules(build, [Block(nn.Linear(4, 6)), read_out((6,))], (4,))
    x, y = batch((4,))
    out, context = rules[0](x, y)
    assert rules[0].decode(context) is None
    scores, context = rules[1](out, y)
    assert torch.equal(rules[1].decode(context), scores)
