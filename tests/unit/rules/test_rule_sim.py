"""Sim as a rule; the loss itself is tested in test_rule_similarity."""

import torch
from rule_builders import assert_same, batch, conv, dense, gradients, make_rule, make_rules, read_out
from torch import nn

from pipeline.data.task import Binary
from pipeline.learning.similarity import similarity_loss
from pipeline.network.block import Block
from pipeline.rules.sim import build


def test_learns_the_similarity_of_its_projected_body():
    rule = make_rule(build, conv(2, 5, pool=True), (2, 6, 6))
    x, y = batch((2, 6, 6))
    out, context = rule(x, y)
    learned = rule.learn(context, ())
    loss = similarity_loss(rule.project(rule.block.body(x)), y, 5)
    assert torch.equal(learned.loss, loss.detach())
    assert out.shape == (16, 5, 3, 3)
    expected = torch.autograd.grad(loss, list(rule.parameters()))
    for given, wanted in zip(gradients(rule), expected, strict=True):
        torch.testing.assert_close(given, wanted, rtol=1e-10, atol=1e-14)


def test_p7_splitting_the_batch_changes_the_loss_and_normalisation():
    rule = make_rule(build, dense(6, 8, norm=True), (6,))
    x, y = batch((6,), size=128)
    out, context = rule(x, y)
    whole = rule.learn(context, ()).loss
    parts = [rule(x[k : k + 32], y[k : k + 32]) for k in range(0, 128, 32)]
    losses = torch.stack([rule.learn(context, ()).loss for _, context in parts])
    assert (losses.mean() - whole).abs() > 1e-3
    assert (torch.cat([part for part, _ in parts]) - out).abs().max() > 1e-2


def test_p7_splitting_changes_sim_without_normalisation_too():
    rule = make_rule(build, dense(6, 8), (6,))
    x, y = batch((6,), size=128)
    rule.learn(rule(x, y)[1], ())
    whole = [g.clone() for g in gradients(rule)]
    rule.zero_grad()
    for k in range(0, 128, 32):
        rule.learn(rule(x[k : k + 32], y[k : k + 32])[1], (), weight=0.25)
    assert max((a - b).abs().max().item() for a, b in zip(gradients(rule), whole)) > 1e-4


def test_binary_task_counts_as_two_classes():
    rule = make_rule(build, dense(2, 6), (2,), Binary())
    x, y = batch((2,), num_classes=2)
    h = rule.project(rule.block.body(x))
    assert torch.equal(rule.learn(rule(x, y)[1], ()).loss, similarity_loss(h, y, 2).detach())


def test_has_no_decoder_but_the_output_block():
    torch.manual_seed(0)
    hidden, top = make_rules(build, [dense(4, 6), read_out((6,))], (4,))
    x, y = batch((4,))
    out, context = hidden(x, y)
    assert hidden.decode(context) is None
    scores, context = top(out, y)
    assert torch.equal(top.decode(context), scores)
    assert not top.block.body[1].weight.any()


def test_dead_block_gives_zero_and_no_nan():
    block = Block(nn.Sequential(nn.Linear(4, 6), nn.ReLU()))
    nn.init.constant_(block.body[0].bias, -100.0)
    rule = make_rule(build, block, (4,))
    x, y = batch((4,))
    rule.learn(rule(x, y)[1], ())
    assert_same(gradients(rule), [torch.zeros_like(p) for p in rule.parameters()])
