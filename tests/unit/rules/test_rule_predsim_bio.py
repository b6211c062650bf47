"""Predsim-bio against pred-bio and sim-bio."""

import copy

import pytest
import torch
from rule_builders import assert_same, batch, conv, dense, gradients, make_rule, make_rules, read_out

from pipeline.rules import pred_bio, sim_bio
from pipeline.rules.predsim_bio import build


def three(block, in_shape, **options):
    """Predsim-bio, and pred-bio and sim-bio with the same weights and matrices."""
    both = make_rule(build, block, in_shape, **options)
    torch.nn.init.normal_(both.head.linear.weight)
    first = make_rule(pred_bio.build, copy.deepcopy(block), in_shape)
    first.head.load_state_dict(both.head.state_dict())
    second = make_rule(sim_bio.build, copy.deepcopy(block), in_shape)
    for rule in (first, second):
        rule.target.load_state_dict(both.target.state_dict())
    return both, first, second


def learn(rule, x, y):
    loss = rule.learn(rule(x, y)[1], ()).loss
    return loss, gradients(rule.block)


@pytest.mark.parametrize(("block", "shape"), [(dense(6, 8, norm=True), (6,)), (conv(2, 5), (2, 4, 4))])
def test_o_s5_beta_zero_is_pred_bio_and_beta_one_is_sim_bio(block, shape):
    """O-S5: predsim_bio with beta = 0 is pred_bio, and with beta = 1 sim_bio, bit for bit."""
    x, y = batch(shape)
    for beta, position in ((0.0, 1), (1.0, 2)):
        rules = three(copy.deepcopy(block), shape, beta=beta)
        loss, grads = learn(rules[0], x, y)
        expected_loss, expected = learn(rules[position], x, y)
        assert torch.equal(loss, expected_loss)
        assert all(torch.equal(a, b) for a, b in zip(grads, expected, strict=True))


def test_o_s5_default_is_the_weighted_sum():
    """O-S5: predsim_bio is .99 of pred_bio and .01 of sim_bio."""
    both, first, second = three(dense(6, 8), (6,))
    assert both.beta == 0.01 and not both.splits_batches
    x, y = batch((6,))
    loss, grads = learn(both, x, y)
    loss_p, grads_p = learn(first, x, y)
    loss_s, grads_s = learn(second, x, y)
    torch.testing.assert_close(loss, 0.99 * loss_p + 0.01 * loss_s, rtol=1e-10, atol=0)
    assert_same(grads, [0.99 * p + 0.01 * s for p, s in zip(grads_p, grads_s)])


def test_decodes_as_pred_bio():
    both, first, _ = three(conv(2, 5), (2, 4, 4))
    x, y = batch((2, 4, 4))
    assert torch.equal(both.decode(both(x, y)[1]), first.decode(first(x, y)[1]))


@pytest.mark.parametrize("beta", [-0.1, 1.5])
def test_refuses_a_beta_that_is_no_share(beta):
    with pytest.raises(ValueError, match=r"predsim_bio cannot.*given: rule\.beta = .*expected: 0 to 1\)\. Change it"):
        make_rules(build, [dense(6, 8)], (6,), beta=beta)


def test_output_block_has_its_plain_loss():
    rule = make_rules(build, [dense(4, 6), read_out((6,))], (4,))[1]
    x, y = batch((6,))
    out, context = rule(x, y)
    assert torch.equal(rule.learn(context, ()).loss, rule.spec.task.loss(out, y))
    assert not rule.block.body[1].weight.any()
