"""Direct random target projection against its formula and against dfa."""

import copy

import pytest
import torch
import torch.nn.functional as F
from rule_builders import CLASSES, assert_same, batch, conv, dense, gradients, make_rule, make_rules, read_out

from pipeline.data.task import Binary
from pipeline.learning.rule import Topology
from pipeline.rules import dfa
from pipeline.rules.drtp import build


@pytest.mark.parametrize(("block", "shape"), [(dense(6, 8), (6,)), (conv(2, 5), (2, 4, 4))], ids=["dense", "conv"])
def test_o_f4_is_dfa_with_the_labels_for_the_error(block, shape):
    """O-F4: drtp is dfa with the one-hot labels, divided by the batch size, for the error."""
    rule, direct = make_rule(build, copy.deepcopy(block), shape), make_rule(dfa.build, block, shape)
    direct.matrix.copy_(rule.matrix.flatten(1))
    x, y = batch(shape)
    rule.learn(rule(x, y)[1], ())
    direct.learn(direct(x, y)[1], (F.one_hot(y, CLASSES).double() / 16,))
    for given, wanted in zip(gradients(rule), gradients(direct), strict=True):
        torch.testing.assert_close(given, wanted, rtol=1e-10, atol=1e-14)


def test_gamma_enters_before_the_pooling_and_the_body_is_exact():
    rule = make_rule(build, conv(2, 4, pool=True), (2, 6, 6))
    x, y = batch((2, 6, 6))
    body = rule.block.body(x)
    expected = torch.autograd.grad(body, list(rule.parameters()), rule.matrix[y] / 16)
    out, context = rule(x, y)
    loss = rule.learn(context, ()).loss
    assert out.shape == (16, 4, 3, 3)
    torch.testing.assert_close(loss, (body * rule.matrix[y]).sum().detach() / 16, rtol=1e-10, atol=1e-12)
    for given, wanted in zip(gradients(rule), expected, strict=True):
        torch.testing.assert_close(given, wanted, rtol=1e-10, atol=1e-14)


def test_matrix_is_a_buffer_bounded_by_the_number_of_units():
    rule = make_rule(build, conv(2, 6, pool=True), (2, 8, 8))
    assert rule.matrix.shape == (CLASSES, 6, 8, 8)
    bound = (6 / (6 * 8 * 8)) ** 0.5
    assert 0.95 * bound < rule.matrix.abs().max() <= bound
    assert "matrix" in rule.state_dict() and not any("matrix" in name for name, _ in rule.named_parameters())
    assert rule.topology is Topology.LOCAL


def test_both_labels_of_a_binary_task_teach():
    rule = make_rule(build, dense(2, 6), (2,), Binary())
    x, _ = batch((2,))
    for label in (0, 1):
        rule.zero_grad()
        rule.learn(rule(x, torch.full((16,), label))[1], ())
        assert all(grad.any() for grad in gradients(rule))


def test_p7_micro_batches_without_normalisation_add_up():
    rule = make_rule(build, dense(6, 8), (6,))
    x, y = batch((6,), size=128)
    rule.learn(rule(x, y)[1], ())
    whole = [g.clone() for g in gradients(rule)]
    rule.zero_grad()
    for k in range(0, 128, 32):
        rule.learn(rule(x[k : k + 32], y[k : k + 32])[1], (), weight=0.25)
    assert_same(gradients(rule), whole)


def test_only_the_last_block_decodes_and_keeps_its_weight():
    torch.manual_seed(0)
    hidden, top = make_rules(build, [dense(4, 6), read_out((6,))], (4,))
    x, y = batch((4,))
    out, context = hidden(x, y)
    assert hidden.decode(context) is None
    scores, context = top(out, y)
    assert torch.equal(top.decode(context), scores) and top.block.body[1].weight.all()
    assert torch.equal(top.learn(context, ()).loss, top.spec.task.loss(scores, y))
