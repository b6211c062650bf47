"""Predictive coding beside backpropagation and beside descent on its energy, written down as one loop."""

import pytest
import torch
from rule_builders import assert_same, batch, conv, dense, gradients, make_rules, read_out, true_gradients
from tests.support.exchange import run_forward, settle
from torch import nn

from pipeline.data.task import Binary, Classification, Logistic
from pipeline.network.block import Block
from pipeline.network.hard_units import Bernoulli
from pipeline.rules.pc import build

TASKS = [Classification(5), Logistic(5), Binary()]


def network(task):
    torch.manual_seed(0)
    return [dense(6, 9), dense(9, 8, nn.ELU), dense(8, 7, nn.Sigmoid), read_out((7,), task.num_outputs)]


def labels(task, y):
    return y % max(2, task.num_outputs)


def learned(rules, x, y, weight=1.0):
    """One batch, as a stage would learn it; contexts and losses."""
    contexts = run_forward(rules, x, y)
    settle(rules, contexts)
    return contexts, [rule.learn(c, (), weight=weight).loss for rule, c in zip(rules, contexts, strict=True)]


def energies(blocks, x, values, y, task):
    """Of every block: half the squared error, and at the top the sum of the output losses."""
    below, found = x, []
    for block, value in zip(blocks[:-1], values, strict=True):
        found.append(0.5 * (value - block(below)).square().sum())
        below = value
    return [*found, len(y) * task.loss(blocks[-1](below), y)]


def descended(blocks, x, y, task, rounds, rate):
    """Values after so many simultaneous steps on the energy."""
    values, below = [], x
    for block in blocks[:-1]:
        below = block(below).detach()
        values.append(below)
    for _ in range(rounds):
        values = [v.detach().requires_grad_() for v in values]
        steps = torch.autograd.grad(sum(energies(blocks, x, values, y, task)), values)
        values = [v - rate * step for v, step in zip(values, steps, strict=True)]
    return [v.detach() for v in values]


@pytest.mark.parametrize("task", TASKS, ids=lambda task: type(task).__name__)
@pytest.mark.parametrize("rounds", [3, 7])
def test_o_pc1_fixed_predictions_at_rate_1_are_backprop(task, rounds):
    """O-PC1: fixed predictions at rate 1 have backpropagation's gradients from as many rounds on as hidden blocks."""
    blocks = network(task)
    rules = make_rules(build, blocks, (6,), task, inference="fixed", rounds=rounds, rate=1.0)
    x, y = batch((6,))
    expected = true_gradients(blocks, x, labels(task, y), task.loss)
    _, losses = learned(rules, x, labels(task, y))
    for rule, wanted in zip(rules, expected, strict=True):
        assert_same(gradients(rule), wanted, rtol=1e-10)
    assert losses[-1] == rules[-1].spec.task.loss(rules[-1](rules_forward(rules[:-1], x), y)[0], labels(task, y))


def rules_forward(rules, x):
    for rule in rules:
        x, _ = rule(x, torch.zeros(len(x), dtype=torch.long))
    return x


def test_o_pc1_one_round_less_and_the_lowest_block_has_heard_nothing():
    """O-PC1: with one round less the lowest block has no gradient at all."""
    task = TASKS[0]
    rules = make_rules(build, network(task), (6,), task, inference="fixed", rounds=2, rate=1.0)
    learned(rules, *batch((6,)))
    assert not any(g.any() for g in gradients(rules[0])) and all(g.any() for g in gradients(rules[1]))


@pytest.mark.parametrize("task", TASKS, ids=lambda task: type(task).__name__)
@pytest.mark.parametrize(("rounds", "rate"), [(1, 0.1), (2, 0.5), (6, 0.2)])
def test_o_pc2_strict_values_descend_on_the_energy_together(task, rounds, rate):
    """O-PC2: strict values take simultaneous steps down the energy, and gradients are the energy's at the values they
    reach."""
    blocks = network(task)
    rules = make_rules(build, blocks, (6,), task, rounds=rounds, rate=rate)
    x, y = batch((6,))
    y = labels(task, y)
    values = descended(blocks, x, y, task, rounds, rate)
    parameters = [list(block.parameters()) for block in blocks]
    energy = sum(energies(blocks, x, values, y, task)) / len(y)
    found = iter(torch.autograd.grad(energy, [p for group in parameters for p in group]))
    contexts, losses = learned(rules, x, y)
    for context, value in zip(contexts[:-1], values, strict=True):
        assert_same([context[2]], [value])
    for rule, group in zip(rules, parameters, strict=True):
        assert_same(gradients(rule), [next(found) for _ in group])
    assert_same(losses[:-1], [e.detach() / len(y) for e in energies(blocks, x, values, y, task)[:-1]])


def test_o_pc3_settling_lowers_the_energy():
    """O-PC3: the more rounds, the lower the energy."""
    task = TASKS[0]
    x, y = batch((6,))
    found = []
    for rounds in (1, 4, 16, 64):
        blocks = network(task)
        values = learned(make_rules(build, blocks, (6,), task, rounds=rounds, rate=0.2), x, y)[0]
        found.append(sum(energies(blocks, x, [c[2] for c in values[:-1]], y, task)).item())
    assert found == sorted(found, reverse=True)


class Faint(Classification):
    """A classification whose loss counts little."""

    def __init__(self, num_classes, share):
        super().__init__(num_classes)
        self.share = share

    def loss(self, scores, labels):
        return self.share * super().loss(scores, labels)

    def loss_and_error(self, scores, labels, weight=1.0):
        loss, error = super().loss_and_error(scores, labels, weight)
        return self.share * loss, self.share * error

    def error(self, scores, labels):
        return self.share * super().error(scores, labels)


def test_o_pc4_settled_values_with_little_error_are_backprop():
    """O-PC4: as the output's error goes to 0, settled strict values have backpropagation's gradients, with an error
    like it."""
    found = []
    x, y = batch((6,))
    for share in (0.04, 0.02, 0.01):
        task = Faint(5, share)
        blocks = network(task)
        rules = make_rules(build, blocks, (6,), task, rounds=300, rate=0.2)
        wanted = torch.cat([g.flatten() for group in true_gradients(blocks, x, y, task.loss) for g in group])
        learned(rules, x, y)
        given = torch.cat([g.flatten() for rule in rules for g in gradients(rule)])
        found.append(((given - wanted).norm() / wanted.norm()).item())
    assert found[-1] < 0.01
    for larger, smaller in zip(found, found[1:]):
        assert larger / smaller == pytest.approx(2.0, rel=0.1)


@pytest.mark.parametrize("inference", ["strict", "fixed"])
def test_o_pc5_parts_of_a_batch_add_up(inference):
    """O-PC5: gradients of a batch are the sum of those of its parts, as each sample settles by itself."""
    task = TASKS[0]
    x, y = batch((6,))
    found = []
    for cuts in ([slice(None)], [slice(0, 4), slice(4, 16)]):
        rules = make_rules(build, network(task), (6,), task, inference=inference)
        for cut in cuts:
            learned(rules, x[cut], y[cut], weight=len(y[cut]) / len(y))
        found.append([g for rule in rules for g in gradients(rule)])
    assert_same(found[1], found[0])


def test_the_network_s_answer_is_the_forward_pass_and_no_block_below_has_one():
    task = TASKS[0]
    blocks = network(task)
    rules = make_rules(build, blocks, (6,), task)
    x, y = batch((6,))
    contexts, _ = learned(rules, x, y)
    answers = [rule.decode(context) for rule, context in zip(rules, contexts, strict=True)]
    assert answers[:-1] == [None] * 3 and torch.equal(answers[-1], nn.Sequential(*blocks)(x))
    assert not rules[0].settles_in_evaluation


@pytest.mark.parametrize(("blocks", "shape", "name"), [
    ([conv(2, 4), read_out((4, 6, 6))], (2, 6, 6), "BatchNorm2d"),
    ([dense(6, 8, norm=True), read_out((8,))], (6,), "BatchNorm1d"),
    ([Block(nn.Sequential(nn.Linear(6, 8), nn.Dropout(0.5))), read_out((8,))], (6,), "Dropout"),
    ([Block(nn.Sequential(nn.Linear(6, 8), nn.Sigmoid(), Bernoulli())), read_out((8,))], (6,), "Bernoulli"),
])  # fmt: skip
def test_strict_refuses_what_a_second_run_changes(blocks, shape, name):
    with pytest.raises(ValueError, match=rf"{name} would not be the same .*Pass rule\.inference=fixed"):
        make_rules(build, blocks, shape)


@pytest.mark.parametrize(("blocks", "shape"), [
    ([conv(2, 4), read_out((4, 6, 6))], (2, 6, 6)), ([dense(6, 8, norm=True), read_out((8,))], (6,)),
])  # fmt: skip
def test_o_pc1_fixed_takes_batch_norm_and_is_backprop_there(blocks, shape):
    """O-PC1: with batch normalisation too, fixed predictions have backpropagation's gradients."""
    rules = make_rules(build, blocks, shape, inference="fixed", rounds=1, rate=1.0)
    x, y = batch(shape)
    expected = true_gradients(blocks, x, y, TASKS[0].loss)
    learned(rules, x, y)
    # What autograd takes for a convolution's bias ahead of batch norm is 0 and its rounding.
    for rule, wanted in zip(rules, expected, strict=True):
        kept = [(g, w) for g, w in zip(gradients(rule), wanted, strict=True) if w.abs().max() > 1e-12]
        assert_same([g for g, _ in kept], [w for _, w in kept])


@pytest.mark.parametrize("inference", ["strict", "fixed"])
def test_a_first_block_of_fixed_weights_has_values_and_learns_nothing(inference):
    blocks = network(TASKS[0])
    blocks[0].requires_grad_(False)
    rules = make_rules(build, blocks, (6,), TASKS[0], inference=inference)
    learned(rules, *batch((6,)))
    assert gradients(blocks[0]) == [None, None] and all(g is not None for g in gradients(blocks[1]))
