"""Sim-bio; the similarities themselves are tested in test_rule_similarity."""

import pytest
import torch
import torch.nn.functional as F
from rule_builders import CLASSES, batch, conv, dense, gradients, make_rule, make_rules, read_out
from torch import nn

from pipeline.learning.similarity import similarity
from pipeline.network.block import Block
from pipeline.rules.sim_bio import build


def plain_loss(features, projected):
    """The definition, for autograd to differentiate: mean squared difference of centred cosines."""
    x = features - features.mean(1, keepdim=True)
    x = x / (1e-8 + x.norm(dim=1, keepdim=True))
    return (x @ x.t() - similarity(projected)).square().mean()


@pytest.mark.parametrize(
    ("block", "shape", "features"),
    [
        (dense(6, 8, norm=True), (6,), lambda h: h),
        (conv(2, 5, pool=True), (2, 8, 8), lambda h: F.avg_pool2d(h, (4, 2)).flatten(2).std(2)),
    ],
    ids=["dense", "conv"],
)
def test_learns_the_similarities_of_the_projected_labels(block, shape, features):
    rule = make_rule(build, block, shape, dimdec=40)  # 5 maps of 8 x 8, pooled to 2 x 4
    x, y = batch(shape)
    loss = plain_loss(features(block.body(x)), F.one_hot(y, CLASSES).double() @ rule.target.matrix)
    expected = torch.autograd.grad(loss, list(rule.parameters()))
    learned = rule.learn(rule(x, y)[1], ())
    torch.testing.assert_close(learned.loss, loss.detach(), rtol=1e-6, atol=0)
    for given, wanted in zip(gradients(rule), expected, strict=True):
        torch.testing.assert_close(given, wanted, rtol=1e-5, atol=1e-6 * wanted.abs().max().item() + 1e-12)


def test_trains_the_block_alone_and_has_no_decoder_but_the_output_block():
    torch.manual_seed(0)
    hidden, top = make_rules(build, [dense(4, 6), read_out((6,))], (4,))
    assert [p.shape for p in hidden.parameters()] == [p.shape for p in hidden.block.parameters()]
    x, y = batch((4,))
    out, context = hidden(x, y)
    assert hidden.decode(context) is None
    scores, context = top(out, y)
    assert torch.equal(top.decode(context), scores) and not top.block.body[1].weight.any()


def test_p7_splitting_the_batch_changes_the_gradient():
    rule = make_rule(build, dense(6, 8), (6,))
    x, y = batch((6,), size=128)
    rule.learn(rule(x, y)[1], ())
    whole = [g.clone() for g in gradients(rule)]
    rule.zero_grad()
    for k in range(0, 128, 32):
        rule.learn(rule(x[k : k + 32], y[k : k + 32])[1], (), weight=0.25)
    assert not rule.splits_batches
    assert max((a - b).abs().max().item() for a, b in zip(gradients(rule), whole)) > 1e-4


def test_dead_block_gives_zero_and_no_nan():
    block = Block(nn.Sequential(nn.Linear(4, 6), nn.ReLU()))
    nn.init.constant_(block.body[0].bias, -100.0)
    rule = make_rule(build, block, (4,))
    x, y = batch((4,))
    loss = rule.learn(rule(x, y)[1], ()).loss
    assert loss.isfinite() and not any(grad.any() for grad in gradients(rule))
