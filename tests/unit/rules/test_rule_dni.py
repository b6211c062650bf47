"""Synthetic gradients: beside backprop where the model is right, and the model beside its regression."""

import pytest
import torch
from rule_builders import assert_same, batch, conv, dense, gradients, make_rule, make_rules, read_out, true_gradients
from torch import nn

from pipeline.data.task import Classification
from pipeline.network.block import Block
from pipeline.rules.dni import build

TASK = Classification(5)
SMALL = {"layers": 1, "width": 12}


class Given(nn.Module):
    """A model that says what it is told to."""

    def __init__(self, gradient):
        super().__init__()
        self.gradient = gradient

    def forward(self, z, labels):
        return self.gradient


def blocks_of():
    torch.manual_seed(0)
    return [dense(6, 9), dense(9, 8), read_out((8,))]


def learned(rules, x, y, weight=1.0, once=False):
    """A batch up and its messages down; the messages, from the last block's on."""
    contexts, messages = [], []
    for rule in rules:
        x, context = rule(x, y)
        contexts.append(context)
    upstream = rules[-1].learn(contexts[-1], (), weight=weight).upstream
    messages.append(upstream)
    for rule, context in zip(rules[-2::-1], contexts[-2::-1]):
        at_once = rule.learn(context, (), weight=weight).upstream if rule.learns_at_once else ()
        later = rule.learn(context, upstream, weight=weight) if not once else None
        upstream = at_once if rule.learns_at_once else later.upstream
        messages.append(upstream)
    return messages


def sample_gradients(blocks, x, y):
    """Of the sum of all samples' losses, by every block's output but the last."""
    outs = []
    for block in blocks:
        x = block(x)
        outs.append(x)
    return torch.autograd.grad(len(y) * TASK.loss(x, y), outs[:-1])


def test_o_n1_a_model_that_is_right_makes_it_backprop():
    """O-N1: with a model that says the true gradient, dni is backpropagation."""
    blocks = blocks_of()
    rules = make_rules(build, blocks, (6,), TASK)
    x, y = batch((6,))
    for rule, gradient in zip(rules, sample_gradients(blocks, x, y), strict=False):
        rule.synthesiser = Given(gradient)
    expected = true_gradients(blocks, x, y, TASK.loss)
    learned(rules, x, y, once=True)
    for rule, wanted in zip(rules, expected, strict=True):
        assert_same(gradients(rule.block), wanted)


def test_messages_are_the_derivatives_of_single_samples():
    blocks = blocks_of()
    rules = make_rules(build, blocks, (6,), TASK)
    x, y = batch((6,))
    wanted = sample_gradients(blocks, x, y)
    rules[1].synthesiser = Given(wanted[1])
    messages = learned(rules, x, y, weight=0.25, once=True)
    assert_same([messages[0][0], messages[1][0]], [wanted[1], wanted[0]])


def test_mixing_of_1_is_backprop():
    blocks = blocks_of()
    rules = make_rules(build, blocks, (6,), TASK, mixing=1.0)
    expected = true_gradients(blocks, *batch((6,)), TASK.loss)
    learned(rules, *batch((6,)))
    for rule, wanted in zip(rules, expected, strict=True):
        assert_same(gradients(rule.block), wanted)


def test_mixing_lies_between_the_model_and_the_message():
    found = []
    for mixing in (1e-12, 0.25, 1.0):
        rules = make_rules(build, blocks_of(), (6,), TASK, mixing=mixing, **SMALL)
        for parameter in rules[1].synthesiser.parameters():
            torch.manual_seed(3)
            nn.init.normal_(parameter)
        learned(rules, *batch((6,)))
        found.append(gradients(rules[1].block))
    for model, both, true in zip(*found, strict=True):
        torch.testing.assert_close(both, 0.75 * model + 0.25 * true, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("options", [{}, {"layers": 0}, {"conditioned": False}, SMALL], ids=str)
def test_o_n2_at_first_no_block_below_the_top_moves_and_the_model_below_it_does(options):
    """O-N2: with a model that begins at 0 the first step moves no bit of a block below the top, and moves the model.

    The topmost model alone: those below it are told what it says, which is 0. Each step reaches one block more.
    """
    rules = make_rules(build, blocks_of(), (6,), TASK, **options)
    optimizer = torch.optim.SGD([p for rule in rules for p in rule.parameters()], lr=0.1)
    parts = [part for rule in rules for part in (rule.block, rule.synthesiser) if part is not None]
    moved = []
    for _ in range(3):
        before = [[p.detach().clone() for p in part.parameters()] for part in parts]
        learned(rules, *batch((6,)))
        optimizer.step()
        optimizer.zero_grad()
        pairs = zip(parts, before, strict=True)
        moved.append([not all(map(torch.equal, part.parameters(), was)) for part, was in pairs])
    # Block 0 and its model, block 1 and its model, the last block.
    assert moved == [[False, False, False, True, True], [False, True, True, True, True], [True] * 5]


def test_o_n3_a_linear_model_of_a_linear_net_has_no_residual_left():
    """O-N3: of a linear net with a squared loss and fixed weights a linear model with labels has no residual left.

    The gradient of a squared error is linear in output and label: least squares leaves nothing.
    """

    class Squared(Classification):
        def loss(self, scores, labels):
            return (scores - self.targets(labels).to(scores.dtype)).square().sum() / len(labels)

    task = Squared(5)
    torch.manual_seed(0)
    rules = make_rules(build, [dense(6, 4, activation=None), read_out((4,))], (6,), task, layers=0)
    x, y = batch((6,), size=64)
    optimizer = torch.optim.LBFGS(rules[0].synthesiser.parameters(), max_iter=200, line_search_fn="strong_wolfe")
    residuals = []

    def closure():
        for rule in rules:
            rule.zero_grad()
        out, context = rules[0](x, y)
        message = rules[1].learn(rules[1](out, y)[1], ()).upstream
        rules[0].learn(context, ())
        residuals.append(rules[0].learn(context, message).loss)
        return residuals[-1]

    optimizer.step(closure)
    assert residuals[-1] < 1e-9 * residuals[0]


@pytest.mark.parametrize("layers", [0, 1])
def test_p7_parts_of_a_batch_add_up_under_a_linear_model_and_not_behind_batch_norm(layers):
    x, y = batch((6,))
    found = []
    for parts in (1, 4):
        rules = make_rules(build, blocks_of(), (6,), TASK, layers=layers, width=12)
        for rule in rules[:-1]:
            nn.init.normal_(rule.synthesiser.layers[-1].map.weight, generator=torch.Generator().manual_seed(2))
        for rows, labels in zip(x.chunk(parts), y.chunk(parts), strict=True):
            learned(rules, rows, labels, weight=1 / parts)
        found.append([g.clone() for rule in rules for g in gradients(rule)])
    same = [torch.allclose(a, b, rtol=1e-6, atol=1e-12) for a, b in zip(*found, strict=True)]
    assert all(same) if layers == 0 else not any(same[:2])


def test_o_n5_a_batch_and_the_same_batch_twice_have_one_residual():
    """O-N5: a model has the same loss on a batch as on the same batch twice."""
    rules = make_rules(build, blocks_of()[:2], (6,), TASK, num_blocks=3, **SMALL)
    nn.init.normal_(rules[0].synthesiser.layers[-1].map.weight)
    x, y = batch((6,))
    message = batch((9,), seed=4)[0]
    found = []
    for times in (1, 2):
        _, context = rules[0](x.repeat(times, 1), y.repeat(times))
        rules[0].learn(context, ())
        found.append(rules[0].learn(context, (message.repeat(times, 1),)).loss)
    torch.testing.assert_close(*found, rtol=1e-12, atol=0.0)


def test_the_model_descends_on_the_mean_over_samples_of_the_squared_distance():
    rules = make_rules(build, blocks_of(), (6,), TASK, layers=0)
    x, y = batch((6,))
    model = rules[0].synthesiser
    nn.init.normal_(model.layers[0].map.weight)
    z, context = rules[0](x, y)
    message = batch((9,), seed=4)[0]
    wanted = (model(z, TASK.targets(y)) - message).square().sum(1).mean()
    expected = torch.autograd.grad(wanted, list(model.parameters()))
    rules[0].learn(context, ())
    learned_later = rules[0].learn(context, (message,), weight=0.5)
    assert_same([learned_later.loss], [wanted.detach()])
    assert_same(gradients(model), [0.5 * g for g in expected])


def test_labels_change_what_a_conditioned_model_says_and_no_other():
    x, y = batch((6,))
    for conditioned in (True, False):
        rule = make_rules(build, blocks_of(), (6,), TASK, conditioned=conditioned)[0]
        for parameter in rule.synthesiser.parameters():
            nn.init.normal_(parameter)
        z, _ = rule(x, y)
        said = [rule._synthetic(z, labels) for labels in (y, (y + 1) % 5)]
        assert torch.equal(*said) != conditioned


def test_maps_are_modelled_by_convolutions_of_their_size():
    rules = make_rules(build, [conv(2, 4, pool=True), read_out((4, 3, 3))], (2, 6, 6), TASK, **SMALL)
    x, y = batch((2, 6, 6))
    z, context = rules[0](x, y)
    said = rules[0]._synthetic(z, y)
    assert said.shape == z.shape == (16, 4, 3, 3) and not said.any()
    message = rules[1].learn(rules[1](z, y)[1], ()).upstream
    rules[0].learn(context, ())
    assert rules[0].learn(context, message).loss > 0


@pytest.mark.parametrize(("block", "in_shape", "shape"), [
    (nn.Linear(6, 9), (4, 6), r"\(4, 9\)"), (nn.Conv3d(2, 3, 1), (2, 4, 4, 4), r"\(3, 4, 4, 4\)"),
])  # fmt: skip
def test_an_output_of_another_shape_is_refused(block, in_shape, shape):
    text = rf"those of a vector or of maps \(given: a block whose output has the shape {shape}, expected: \(features,"
    with pytest.raises(ValueError, match=text):
        make_rule(build, Block(block), in_shape, TASK)


def test_what_waits_for_the_message_is_the_output_and_the_labels_alone():
    rule = make_rules(build, blocks_of(), (6,), TASK)[0]
    z, context = rule(*batch((6,)))
    rule.learn(context, ())
    assert context[:2] == [None, None] and torch.equal(context[2], z)


def test_the_model_has_a_rate_of_its_own():
    rule = make_rules(build, blocks_of(), (6,), TASK, synthesiser_rate=0.1)[0]
    (block, factor), (model, its_factor) = rule.parameter_groups()
    assert (factor, its_factor) == (1.0, 0.1)
    assert {id(p) for p in (*block, *model)} == {id(p) for p in rule.parameters()}


def test_a_batch_of_one_sample_is_its_own_mean():
    """What is normalised is then 0, as in the limit; the model still learns from its shift on."""
    rules = make_rules(build, blocks_of(), (6,), TASK, **SMALL)
    model = rules[0].synthesiser
    for parameter in model.parameters():
        nn.init.normal_(parameter)
    x, y = batch((6,), size=1)
    z, context = rules[0](x, y)
    last = model.layers[-1].map
    wanted = last(torch.relu(model.layers[0].shift)).unsqueeze(0)
    assert_same([rules[0]._synthetic(z, y).detach()], [wanted.detach()])
    rules[0].learn(context, ())
    rules[0].learn(context, (torch.ones_like(z),))
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("mixing", [0.0, 0.5])
def test_a_first_block_of_fixed_weights_teaches_its_model_alone(mixing):
    blocks = blocks_of()
    blocks[0].requires_grad_(False)
    rules = make_rules(build, blocks, (6,), TASK, mixing=mixing)
    learned(rules, *batch((6,)))
    assert gradients(blocks[0]) == [None, None]
    assert all(g is not None for g in (*gradients(rules[0].synthesiser.layers[-1]), *gradients(blocks[1])))
