"""Pred-bio."""

import pytest
import torch
import torch.nn.functional as F
from rule_builders import CLASSES, assert_same, batch, conv, dense, gradients, make_rule, make_rules, read_out

from pipeline.data.task import Binary
from pipeline.rules.pred_bio import build

BLOCKS = pytest.mark.parametrize(
    ("block", "shape", "options"),
    [(dense(6, 8, norm=True), (6,), {}), (conv(2, 5, pool=True), (2, 6, 6), {"dimdec": 20})],
    ids=["dense", "conv"],
)


@BLOCKS
def test_o_s7_with_the_weight_for_the_matrix_it_is_the_gradient_of_the_bits_cross_entropy(block, shape, options):
    """O-S7: pred_bio with W for its fixed matrix has autograd's gradient of the binary cross entropy."""
    rule = make_rule(build, block, shape, **options)
    torch.nn.init.normal_(rule.head.linear.weight)
    rule.head.matrix.copy_(rule.head.linear.weight.detach())
    x, y = batch(shape)
    bits = (F.one_hot(y, CLASSES).double() @ rule.target.matrix > 0).double()
    rows = rule.head.pool(block.body(x)).flatten(1)
    loss = F.binary_cross_entropy_with_logits(rule.head.linear(rows), bits)
    expected = torch.autograd.grad(loss, list(rule.parameters()))
    rule.zero_grad()
    learned = rule.learn(rule(x, y)[1], ())
    assert torch.equal(learned.loss, loss.detach())
    for given, wanted in zip(gradients(rule), expected, strict=True):
        torch.testing.assert_close(given, wanted, rtol=1e-10, atol=1e-14)


@BLOCKS
def test_o_s7_at_the_start_the_block_learns_through_the_random_matrix(block, shape, options):
    """O-S7: with W = 0 and a random matrix the block's first gradient is not 0."""
    rule = make_rule(build, block, shape, **options)
    assert not rule.head.linear.weight.any()
    x, y = batch(shape)
    rule.zero_grad()
    rule.learn(rule(x, y)[1], ())
    assert block.body[0].weight.grad.abs().max() > 1e-6
    assert rule.head.linear.weight.grad.any() and rule.head.linear.bias.grad.any()


def test_p7_micro_batches_without_normalisation_add_up():
    rule = make_rule(build, dense(6, 8), (6,))
    torch.nn.init.normal_(rule.head.linear.weight)
    x, y = batch((6,), size=128)
    rule.learn(rule(x, y)[1], ())
    whole = [g.clone() for g in gradients(rule)]
    rule.zero_grad()
    for k in range(0, 128, 32):
        rule.learn(rule(x[k : k + 32], y[k : k + 32])[1], (), weight=0.25)
    assert rule.splits_batches
    assert_same(gradients(rule), whole)


@pytest.mark.parametrize(("task", "num_classes"), [(None, CLASSES), (Binary(), 2)])
def test_a_block_that_has_learned_answers_with_the_right_class(task, num_classes):
    torch.manual_seed(0)
    rule = make_rule(build, dense(4, 40), (4,), task)
    x, y = batch((4,), size=40, num_classes=num_classes)
    optimizer = torch.optim.Adam(rule.parameters(), lr=0.02)
    for _ in range(200):
        optimizer.zero_grad()
        _, context = rule(x, y)
        rule.learn(context, ())
        optimizer.step()
    scores = rule.decode(context)
    assert scores.shape == (40, 1 if task else CLASSES) and not scores.requires_grad
    assert rule.num_correct(scores, y) >= 36


def test_output_block_starts_at_weight_zero():
    torch.manual_seed(0)
    rule = make_rules(build, [dense(4, 6), read_out((6,))], (4,))[1]
    x, y = batch((6,))
    out, context = rule(x, y)
    assert torch.equal(out, rule.block.body[1].bias.detach().expand(16, CLASSES))
    assert torch.equal(rule.learn(context, ()).loss, rule.spec.task.loss(out, y))
