"""Backprop: rules chained by hand against autograd through the whole network."""

import pytest
import torch
from rule_builders import assert_same, batch, conv, dense, gradients, learn_chain, make_rules, read_out, true_gradients
from torch import nn

from pipeline.data.task import Binary
from pipeline.network.block import Block
from pipeline.rules.backprop import build


def test_o_bp1_dense_chain_is_autograd():
    """O-BP1: a chain of dense blocks has autograd's gradients."""
    blocks = [dense(6, 8, norm=True), dense(8, 8), dense(8, 7, nn.ReLU), read_out((7,))]
    rules = make_rules(build, blocks, (6,))
    x, y = batch((6,))
    expected = true_gradients(blocks, x, y, rules[0].spec.task.loss)
    losses = learn_chain(rules, x, y)
    for rule, grads in zip(rules, expected, strict=True):
        assert_same(gradients(rule), grads)
    assert losses[:-1] == [None, None, None] and losses[-1] > 0


def test_o_bp1_conv_chain_is_autograd():
    """O-BP1: a chain of convolutional blocks has autograd's gradients."""
    blocks = [conv(2, 4), conv(4, 6, pool=True), read_out((6, 3, 3))]
    rules = make_rules(build, blocks, (2, 6, 6))
    x, y = batch((2, 6, 6))
    expected = true_gradients(blocks, x, y, rules[0].spec.task.loss)
    learn_chain(rules, x, y)
    for rule, grads in zip(rules, expected, strict=True):
        # The bias in front of BatchNorm has gradient 0 but for rounding.
        for given, wanted in zip(gradients(rule), grads, strict=True):
            torch.testing.assert_close(given, wanted, rtol=1e-10, atol=1e-14)


def test_o_bp1_binary_task():
    """O-BP1: a chain with one logit has autograd's gradients."""
    blocks = [dense(2, 5), read_out((5,), 1)]
    rules = make_rules(build, blocks, (2,), Binary())
    x, y = batch((2,), num_classes=2)
    expected = true_gradients(blocks, x, y, Binary().loss)
    learn_chain(rules, x, y)
    for rule, grads in zip(rules, expected, strict=True):
        assert_same(gradients(rule), grads)


def test_the_weight_travels_with_the_feedback():
    blocks = [dense(6, 8), read_out((8,))]
    rules = make_rules(build, blocks, (6,))
    x, y = batch((6,))
    expected = true_gradients(blocks, x, y, rules[0].spec.task.loss)
    learn_chain(rules, x, y, weight=0.25)
    for rule, grads in zip(rules, expected, strict=True):
        assert_same(gradients(rule), [g * 0.25 for g in grads])


def test_first_block_sends_nothing_and_may_have_no_parameters():
    flatten, top = make_rules(build, [Block(nn.Flatten()), read_out((6,))], (2, 3))
    x, y = batch((2, 3))
    out, context = flatten(x, y)
    above, above_context = top(out, y)
    learned = flatten.learn(context, top.learn(above_context, ()).upstream)
    assert learned.upstream == () and learned.loss is None


def test_learning_after_the_weights_moved_is_refused_by_autograd():
    """Backprop is exact only with the weights of its forward (class X1w): torch notices that they are gone."""
    rules = make_rules(build, [dense(4, 6), dense(6, 6), read_out((6,))], (4,))
    x, y = batch((6,))
    _, context = rules[1](x, y)
    with torch.no_grad():
        for parameter in rules[1].parameters():
            parameter.add_(1.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        rules[1].learn(context, (torch.ones(16, 6, dtype=torch.float64),))


def test_o_bp5_a_late_gradient_without_the_old_weights_is_that_of_no_version():
    """O-BP5: a gradient through new weights at old activations is neither the old weights' gradient nor the new ones'.
    """
    torch.manual_seed(0)
    block = Block(nn.Sequential(nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 8)))
    rule = make_rules(build, [block, read_out((8,))], (6,))[0]
    x, y = batch((6,))
    gamma = batch((8,), seed=1)[0]
    true = [torch.autograd.grad(block(x), list(block.parameters()), gamma)]
    # What is saved for the way back is the weight itself, as it is then: nothing is kept, and nothing is noticed.
    with torch.autograd.graph.saved_tensors_hooks(lambda t: t, lambda t: t):
        _, context = rule(x, y)
    with torch.no_grad():
        for parameter, gradient in zip(block.parameters(), true[0], strict=True):
            parameter.sub_(0.1 * gradient)
    true.append(torch.autograd.grad(block(x), list(block.parameters()), gamma))
    rule.learn(context, (gamma,))
    for version in true:
        assert (block.body[0].weight.grad - version[0]).abs().max() > 0.01 * version[0].abs().max()


def test_only_the_last_block_decodes():
    rules = make_rules(build, [dense(4, 6), read_out((6,))], (4,))
    x, y = batch((4,))
    out, context = rules[0](x, y)
    assert rules[0].decode(context) is None
    scores, context = rules[1](out, y)
    assert torch.equal(rules[1].decode(context), scores) and not rules[1].decode(context).requires_grad
