"""Readout: autograd through a fixed matrix is the oracle; who has which version is told in test_published_runs."""

import pytest
import torch
from rule_builders import CLASSES, assert_same, batch, conv, dense, gradients, make_rules, read_out
from torch import nn

from pipeline.rules import pred
from pipeline.rules.readout import build


def rules_of(**options):
    torch.manual_seed(0)
    return make_rules(build, [dense(6, 8), dense(8, 8), read_out((8,))], (6,), **options)


@pytest.mark.parametrize("norm", [True, False])
def test_a_hidden_block_descends_on_what_the_matrix_reads_and_leaves_the_matrix(norm):
    rules = rules_of(norm=norm)
    matrix = rules[2].to_publish()
    rules[1].published.copy_(matrix)
    x, y = batch((8,))
    h = rules[1].block(x)
    normed = h * (h.square().mean(1, keepdim=True) + torch.finfo(h.dtype).eps).rsqrt() if norm else h
    loss = rules[1].spec.task.loss(normed @ matrix.T, y)  # its bias is 0 and its gain 1 at the start
    expected = torch.autograd.grad(loss, list(rules[1].block.parameters()))
    learned = rules[1].learn(rules[1](x, y)[1], (), weight=0.5)
    torch.testing.assert_close(learned.loss, loss.detach())
    assert_same(gradients(rules[1].block), [g / 2 for g in expected])
    assert rules[1].bias.grad.any() and rules[1].published.grad is None
    assert torch.equal(rules[1].published, matrix) and learned.upstream == ()
    torch.testing.assert_close(rules[1].decode(rules[1](x, y)[1]), (normed @ matrix.T).detach())


def test_the_last_block_learns_by_the_output_loss_and_has_its_own_matrix_to_publish():
    last = rules_of(every=7)[2]
    x, y = batch((8,))
    loss = last.spec.task.loss(last.block(x), y)
    expected = torch.autograd.grad(loss, list(last.parameters()))
    assert torch.equal(last.learn(last(x, y)[1], ()).loss, loss.detach())
    assert all(map(torch.equal, gradients(last), expected))
    assert last.to_publish().data_ptr() == last.block.body[1].weight.data_ptr() and last.published.any()
    assert torch.equal(last.published, last.to_publish()) and last.published.shape == (CLASSES, 8)
    with torch.no_grad():
        last.block.body[1].weight.zero_()
    assert last.published.any() and not last.to_publish().any()  # what has been published stays
    assert [rule.publishes_every for rule in rules_of(every=7)] == [7, 7, 7]


def test_the_matrix_is_no_parameter_and_is_in_the_state():
    for rule in rules_of():
        assert "published" not in dict(rule.named_parameters()) and "published" in rule.state_dict()
    assert sum(name.endswith("weight") for name in rules_of()[2].state_dict()) == 1


WRONG = {
    "maps": (lambda: make_rules(build, [conv(2, 3), read_out((3, 4, 4))], (2, 4, 4)),
             r"takes vectors \(given: a body's output of shape \(3, 4, 4\) in block 0, expected: \(features,\)\)"),
    "no read-out": (lambda: make_rules(build, [dense(6, 8), dense(8, CLASSES), type(dense(1, 1))(nn.Tanh())], (6,)),
                    r"the last block has no read-out to share \(given: 0 linear layers"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_networks_without_one_read_out_for_all(name):
    make, text = WRONG[name]
    with pytest.raises(ValueError, match=text):
        make()


def test_a_rule_that_publishes_nothing_says_so():
    rule = make_rules(pred.build, [dense(6, 8), read_out((8,))], (6,))[0]
    assert rule.publishes_every == 0
    with pytest.raises(TypeError, match=r"Pred publishes every 0 steps and was asked what. Define to_publish\(\), or"):
        rule.to_publish()
