"""Direct feedback alignment by the error's sign: dfa with the signs in place of the error."""

import pytest
import torch
from rule_builders import CLASSES, assert_same, batch, conv, dense, gradients, make_rules, read_out

from pipeline.data.position_tasks import Regression
from pipeline.data.task import Binary, Classification
from pipeline.learning.rule import Topology
from pipeline.rules import dfa
from pipeline.rules.sdfa import build


@pytest.mark.parametrize("weight", [1.0, 0.25])
def test_the_last_block_sends_the_mean_of_signs_and_descends_on_the_loss(weight):
    rule = make_rules(build, [dense(6, 8), read_out((8,))], (6,))[1]
    x, y = batch((8,))
    out, context = rule(x, y)
    learned = rule.learn(context, (), weight=weight)
    right = torch.nn.functional.one_hot(y, CLASSES).bool()
    expected = torch.where(right, -1.0, 1.0).double() / 16 * weight
    assert torch.equal(learned.upstream[0], expected)
    loss = rule.spec.task.loss(rule.block(x), y)
    assert torch.equal(learned.loss, loss.detach())
    assert_same(gradients(rule), torch.autograd.grad(loss * weight, list(rule.parameters())))
    assert rule.topology is Topology.BROADCAST and rule.learns_at_once


def test_a_binary_task_sends_the_side_on_which_the_output_errs():
    rule = make_rules(build, [dense(2, 3), read_out((3,), 1)], (2,), Binary())[1]
    x, y = batch((3,), num_classes=2)
    sent = rule.learn(rule(x, y)[1], ()).upstream[0]
    assert torch.equal(sent, torch.where(y == 1, -1.0, 1.0).double().unsqueeze(1) / 16)


@pytest.mark.parametrize("in_shape", [(6,), (2, 6, 6)])
def test_hidden_blocks_are_those_of_dfa(in_shape):
    def first(build):
        torch.manual_seed(3)
        block, shape = (dense(6, 8), (8,)) if in_shape == (6,) else (conv(2, 4, pool=True), (4, 3, 3))
        return make_rules(build, [block, read_out(shape)], in_shape)[0]

    x, y = batch(in_shape)
    error = Classification(CLASSES).error(torch.randn(16, CLASSES, dtype=torch.float64), y).sign() / 16
    found = []
    for rule in (first(build), first(dfa.build)):
        rule.learn(rule(x, y)[1], (error,))
        found.append((rule.matrix, *gradients(rule)))
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_parts_of_a_batch_add_up():
    rules = make_rules(build, [dense(6, 8), read_out((8,))], (6,))

    def learn(x, y, weight):
        h, below = rules[0](x, y)
        _, above = rules[1](h, y)
        rules[0].learn(below, rules[1].learn(above, (), weight=weight).upstream, weight=weight)

    x, y = batch((6,))
    learn(x, y, 1.0)
    whole = [g.clone() for g in gradients(rules[0])]
    rules[0].zero_grad()
    learn(x[:12], y[:12], 0.75)
    learn(x[12:], y[12:], 0.25)
    assert_same(gradients(rules[0]), whole)


def test_signs_of_numbers_are_divided_by_all_that_the_loss_is_a_mean_over():
    rule = make_rules(build, [dense(6, 8), read_out((8,), 3)], (6,), Regression(3))[1]
    out, y = torch.zeros(16, 3, dtype=torch.float64), torch.full((16, 3), 0.5)
    assert torch.equal(rule.error(out, y), torch.full_like(out, -1 / 48))
