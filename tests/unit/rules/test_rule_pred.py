"""Pred."""

import torch
from rule_builders import CLASSES, assert_same, batch, conv, dense, gradients, make_rule, make_rules, read_out

from pipeline.data.task import Binary
from pipeline.rules.pred import build


def unfreeze_head(rule):
    torch.nn.init.normal_(rule.head.linear.weight)
    return rule


def test_gradient_is_autograds_of_the_heads_loss():
    rule = unfreeze_head(make_rule(build, conv(2, 5, pool=True), (2, 6, 6), dimdec=20))
    x, y = batch((2, 6, 6))
    loss = rule.spec.task.loss(rule.head(rule.block.body(x)), y)
    expected = torch.autograd.grad(loss, list(rule.parameters()))
    learned = rule.learn(rule(x, y)[1], ())
    assert torch.equal(learned.loss, loss.detach())
    assert rule.head.linear.in_features == 20  # 5 maps of 6 x 6, pooled to 2 x 2
    for given, wanted in zip(gradients(rule), expected, strict=True):
        torch.testing.assert_close(given, wanted, rtol=1e-10, atol=1e-14)


def test_o_s6_at_the_start_the_head_learns_and_the_block_does_not():
    """O-S6: with a head that begins at 0 the first gradient of the block is exactly 0, and the head's is not."""
    rule = make_rule(build, dense(6, 8, norm=True), (6,))
    x, y = batch((6,))
    rule.learn(rule(x, y)[1], ())
    assert not any(p.grad.any() for p in rule.block.parameters())
    assert rule.head.linear.weight.grad.any()


def test_p7_micro_batches_of_pred_without_normalisation_add_up():
    rule = unfreeze_head(make_rule(build, dense(6, 8), (6,)))
    x, y = batch((6,), size=128)
    rule.learn(rule(x, y)[1], ())
    whole = [g.clone() for g in gradients(rule)]
    rule.zero_grad()
    for k in range(0, 128, 32):
        rule.learn(rule(x[k : k + 32], y[k : k + 32])[1], (), weight=0.25)
    assert_same(gradients(rule), whole, rtol=1e-10)


def test_binary_task_has_one_logit():
    rule = unfreeze_head(make_rule(build, dense(2, 6), (2,), Binary()))
    x, y = batch((2,), num_classes=2)
    _, context = rule(x, y)
    scores = rule.decode(context)
    assert scores.shape == (16, 1)
    assert torch.equal(rule.learn(context, ()).loss, Binary().loss(scores, y))
    assert rule.num_correct(scores, y) == ((scores[:, 0] > 0) == (y == 1)).sum()


def test_reads_the_body_before_the_outlet():
    block = conv(2, 4, pool=True)
    rule = unfreeze_head(make_rule(build, block, (2, 4, 4)))
    x, y = batch((2, 4, 4))
    _, context = rule(x, y)
    assert torch.equal(rule.decode(context), rule.head(block.body(x)).detach())
    assert rule.head.linear.in_features == 4 * 4 * 4


def test_output_block_starts_at_weight_zero():
    torch.manual_seed(0)
    rule = make_rules(build, [dense(4, 6), read_out((6,))], (4,))[1]
    linear = rule.block.body[1]
    assert not linear.weight.any() and linear.bias.all()
    x, y = batch((6,))
    out, context = rule(x, y)
    assert torch.equal(out, linear.bias.detach().expand(16, CLASSES))
