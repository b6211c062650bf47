"""The linear decoder rule."""

import torch
import torch.nn.functional as F
from rule_builders import assert_same, batch, conv, dense, gradients, make_rule, make_rules, read_out, true_gradients
from torch import nn

from pipeline.data.position_tasks import Regression
from pipeline.data.task import Binary
from pipeline.learning.rule import BlockSpec
from pipeline.network.block import Block
from pipeline.rules.linear_decoder import build


class UnitNorm(nn.Module):
    def forward(self, x):
        return F.normalize(x, dim=1)


def test_hidden_gradient_is_the_formula():
    """delta = 2/(B C) (y_hat - y) D through the block; G_D = 2/(B C) (y_hat - y)^T z."""
    rule = make_rule(build, dense(6, 8), (6,))
    x, y = batch((6,))
    z = rule.block.body(x)
    error = (2 / (16 * 5)) * (z @ rule.decoder.t() - F.one_hot(y, 5)).detach()
    expected = torch.autograd.grad(z, list(rule.block.parameters()), error @ rule.decoder.detach(), retain_graph=True)
    learned = rule.learn(rule(x, y)[1], ())
    assert_same(gradients(rule.block), expected)
    assert_same([rule.decoder.grad], [error.t() @ z.detach()])
    torch.testing.assert_close(learned.loss, error.square().sum() * (80 / 4), rtol=1e-10, atol=0)


def test_o_ld1_one_layer_net_is_backprop():
    """O-LD1: in a net of one layer the linear decoder rule is backpropagation."""
    block = read_out((6,))
    rule = make_rules(build, [block], (6,))[0]
    x, y = batch((6,))
    expected = true_gradients([block], x, y, rule.spec.task.loss)[0]
    rule.learn(rule(x, y)[1], ())
    assert_same(gradients(rule), expected)


def test_o_ld1_last_layer_has_backprops_gradient_given_its_input():
    """O-LD1: the last layer has backpropagation's gradient, given its input."""
    blocks = [dense(6, 8), read_out((8,))]
    rules = make_rules(build, blocks, (6,))
    x, y = batch((6,))
    expected = true_gradients(blocks, x, y, rules[0].spec.task.loss)[1]
    out, _ = rules[0](x, y)
    rules[1].learn(rules[1](out, y)[1], ())
    assert_same(gradients(rules[1]), expected)


def test_o_ld2_no_gradient_reaches_the_block_below():
    """O-LD2: what a block learns leaves no gradient in the block below it."""
    lower, upper, _ = make_rules(build, [dense(6, 8), dense(8, 8), read_out((8,))], (6,))
    x, y = batch((6,))
    out, _ = lower(x, y)
    assert not out.requires_grad
    upper.learn(upper(out, y)[1], ())
    assert all(g is None for g in gradients(lower)) and out.grad is None
    assert all(g is not None for g in gradients(upper))


def rprop_steps(interleave):
    """Step sizes that Rprop takes under a gradient of constant sign."""
    parameter = nn.Parameter(torch.zeros(1, dtype=torch.float64))
    optimizer = torch.optim.Rprop([parameter], lr=0.01)
    steps = []
    for _ in range(6):
        if interleave:
            parameter.grad = torch.zeros_like(parameter)
            optimizer.step()
        before = parameter.item()
        parameter.grad = torch.ones_like(parameter)
        optimizer.step()
        steps.append(before - parameter.item())
    return torch.tensor(steps, dtype=torch.float64)


def test_o_ld3_rprop_grows_its_step_on_a_constant_sign():
    """O-LD3: under a gradient of one sign, step n of Rprop is .01 times 1.2 to the power n - 1."""
    expected = 0.01 * 1.2 ** torch.arange(6, dtype=torch.float64)
    torch.testing.assert_close(rprop_steps(interleave=False), expected, rtol=1e-9, atol=0)


def test_o_ld3_zero_gradients_in_between_keep_rprops_step_at_the_start():
    """O-LD3: with a gradient of 0 before each real one, every step of Rprop is .01.

    Why the notebook's parallel arm is not Rprop: a shared optimizer met zero gradients of the other layers.
    """
    torch.testing.assert_close(rprop_steps(interleave=True), torch.full((6,), 0.01).double(), rtol=1e-7, atol=0)


def test_o_ld4_fixed_decoder_on_unit_norm_features_stays_within_its_length():
    """O-LD4: on features of length 1 a fixed decoder says nothing larger than its own length."""
    block = Block(nn.Sequential(nn.Linear(2, 100), nn.Mish(), UnitNorm()))
    rule = make_rule(build, block, (2,), Binary(), decoder="fixed")
    x, y = batch((2,), size=500, num_classes=2)
    scores = rule.decode(rule(x, y)[1])
    length = rule.decoder.norm()
    assert scores.abs().max() <= length
    assert 0.45 < length < 0.7  # about 1/sqrt(3): a target of 1 is out of reach


def test_fixed_decoder_is_a_buffer_and_never_moves():
    rule = make_rule(build, dense(6, 8), (6,), decoder="fixed")
    before = rule.decoder.clone()
    assert {name for name, _ in rule.named_parameters()} == {"block.body.0.weight", "block.body.0.bias"}
    assert "decoder" in rule.state_dict()
    x, y = batch((6,))
    rule.learn(rule(x, y)[1], ())
    assert torch.equal(rule.decoder, before) and rule.decoder.grad is None
    assert all(g is not None for g in gradients(rule))


def test_decoder_is_bounded_by_the_number_of_features_and_reads_maps_flat():
    rule = make_rule(build, conv(2, 4, pool=True), (2, 6, 6))
    assert rule.decoder.shape == (5, *rule.spec.body_shape) and rule.decoder.numel() == 5 * 144
    assert 0.9 / 12 < rule.decoder.abs().max() <= 1 / 12
    x, y = batch((2, 6, 6))
    _, context = rule(x, y)
    assert_same([rule.decode(context)], [(rule.block.body(x).flatten(1) @ rule.decoder.flatten(1).t()).detach()])


def test_a_pooled_decoder_reads_the_means_of_the_map():
    """delta = 2/(B C) (y_hat - y) D, spread evenly over each pooled square; D is bounded by the features it reads."""
    rule = make_rule(build, conv(2, 4), (2, 6, 6), dimdec=36)
    assert rule.decoder.shape == (5, 4, 3, 3) and 0.9 / 6 < rule.decoder.abs().max() <= 1 / 6
    x, y = batch((2, 6, 6))
    z = rule.block.body(x)
    means = z.unflatten(2, (3, 2)).unflatten(4, (3, 2)).mean((3, 5)).flatten(1)
    flat = rule.decoder.flatten(1)
    error = (2 / (16 * 5)) * (means @ flat.t() - F.one_hot(y, 5)).detach()
    spread = (error @ flat.detach()).view(-1, 4, 3, 3).repeat_interleave(2, 2).repeat_interleave(2, 3) / 4
    # Without the convolution's bias, whose gradient batch norm makes 0.
    parameters = [p for name, p in rule.block.named_parameters() if name != "body.0.bias"]
    expected = torch.autograd.grad(z, parameters, spread, retain_graph=True)
    rule.learn(rule(x, y)[1], ())
    assert_same([p.grad for p in parameters], expected)
    assert_same([rule.decoder.grad.flatten(1)], [error.t() @ means.detach()])


def test_a_vector_is_read_as_it_is():
    torch.manual_seed(0)
    pooled = make_rule(build, dense(6, 8), (6,), dimdec=2)
    assert pooled.decoder.shape == (5, 8) and "pool" not in "".join(pooled.state_dict())


def test_cross_entropy_is_the_tasks_own_loss_and_boundary():
    rule = make_rule(build, dense(2, 6), (2,), Binary(), loss="cross_entropy", decoder="fixed")
    x, y = batch((2,), num_classes=2)
    _, context = rule(x, y)
    scores = rule.decode(context)
    assert torch.equal(rule.learn(context, ()).loss, Binary().loss(scores, y))
    assert rule.num_correct(scores, y) == Binary().num_correct(scores, y)
    assert "class_means" not in rule.state_dict()


def test_trained_decoder_splits_a_binary_task_half_way():
    rule = make_rule(build, dense(2, 6), (2,), Binary())
    scores = torch.tensor([[0.4], [0.6], [0.4], [0.6]])
    y = torch.tensor([0, 1, 1, 0])
    assert rule.num_correct(scores, y) == 2
    assert rule.num_correct(scores, torch.tensor([0, 1, 0, 1])) == 4
    torch.testing.assert_close(rule.decoded_loss(scores, y), torch.tensor((2 * 0.4**2 + 2 * 0.6**2) / 4))


def test_classes_are_counted_by_the_largest_output():
    rule = make_rule(build, dense(2, 6), (2,))
    scores = torch.eye(5)
    assert rule.num_correct(scores, torch.tensor([0, 1, 2, 3, 0])) == 4
    assert rule.decoded_loss(scores, torch.arange(5)) == 0


def test_fixed_decoder_of_a_binary_task_splits_at_the_training_classes_mid_point():
    torch.manual_seed(0)
    block = Block(nn.Sequential(nn.Linear(1, 20), nn.Tanh(), UnitNorm()))
    rule = make_rule(build, block, (1,), Binary(), decoder="fixed")
    rule.decoder.mul_(0.5)
    x = torch.linspace(-1, 1, 64, dtype=torch.float64).unsqueeze(1)
    y = (x[:, 0] > 0).long()
    optimizer = torch.optim.SGD(rule.parameters(), lr=1.0)
    for _ in range(100):
        optimizer.zero_grad()
        rule.learn(rule(x, y)[1], ())
        optimizer.step()
    rule.eval()
    scores = rule.decode(rule(x, y)[1])
    means = torch.stack([scores[y == 0].mean(), scores[y == 1].mean()])
    torch.testing.assert_close(rule.class_means, means, rtol=0, atol=0.02)
    # Half way between the targets nothing is told apart.
    assert scores.max() < 0.5 and Binary().num_correct_decoded(scores, y) == 32
    assert rule.num_correct(scores, y) >= 56


def test_class_means_follow_training_batches_only_and_skip_absent_classes():
    rule = make_rule(build, dense(2, 6), (2,), Binary(), decoder="fixed")
    x, _ = batch((2,))
    ones = torch.ones(16, dtype=torch.int64)
    rule.eval()
    with torch.no_grad():
        rule.loss(rule(x, ones)[1])
    assert rule.class_means.tolist() == [0.0, 1.0]
    rule.train()
    _, context = rule(x, ones)
    rule.loss(context)
    assert rule.class_means[0] == 0.0
    assert_same([rule.class_means[1]], [0.9 + 0.1 * rule.decode(context).mean()])


def test_numbers_are_not_rounded_where_scores_are_under_autocast():
    """1000.3 is 1000 in bfloat16."""
    rule = build(dense(6, 8), BlockSpec(0, 2, (6,), (8,), (8,), Regression(1)))
    scores, y = torch.full((2, 1), 1000.0, dtype=torch.bfloat16), torch.full((2, 1), 1000.3)
    torch.testing.assert_close(rule.decoded_loss(scores, y), torch.tensor(0.09), rtol=1e-3, atol=0.0)
