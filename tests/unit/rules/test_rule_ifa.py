"""Indirect feedback alignment beside direct feedback alignment and beside the formula."""

import pytest
import torch
from tests.support.exchange import run_forward, settle
from torch import nn

from pipeline.data.task import Classification
from pipeline.learning.rule import BlockSpec
from pipeline.network.block import Block
from pipeline.network.hard_units import Sign
from pipeline.rules import dfa, ifa

TASK = Classification(4)
BATCH = 5


def _network(build, widths, unit=nn.Tanh):
    torch.manual_seed(0)
    rules = []
    for k, (num_in, num_out) in enumerate(zip(widths, widths[1:], strict=False)):
        parts = [nn.Linear(num_in, num_out)] + ([unit()] if k < len(widths) - 2 else [])
        spec = BlockSpec(k, len(widths) - 1, (num_in,), (num_out,), (num_out,), TASK)
        rules.append(build(Block(nn.Sequential(*parts)), spec).double())
    return rules


def _batch(width):
    generator = torch.Generator().manual_seed(3)
    return torch.randn(BATCH, width, dtype=torch.float64, generator=generator), torch.arange(BATCH) % 4


def _learn(rules, x, y, weight=1.0, between=lambda: None):
    contexts = run_forward(rules, x, y)
    between()
    settle(rules, contexts)
    for rule, context in zip(rules, contexts, strict=True):
        rule.learn(context, (), weight=weight)
    return contexts


@pytest.mark.parametrize("unit", [nn.Tanh, nn.Softsign])
def test_one_hidden_layer_is_direct_feedback_alignment(unit):
    x, y = _batch(6)
    ours = _network(ifa.build, (6, 9, 4), unit)
    theirs = _network(dfa.build, (6, 9, 4), unit)
    theirs[0].matrix.copy_(ours[0].matrix)
    _learn(ours, x, y)
    out, first = theirs[0](x, y)
    _, last = theirs[1](out, y)
    theirs[0].learn(first, theirs[1].learn(last, ()).upstream)
    for rule, other in zip(ours, theirs, strict=True):
        for mine, wanted in zip(rule.block.parameters(), other.block.parameters(), strict=True):
            torch.testing.assert_close(mine.grad, wanted.grad, rtol=1e-10, atol=1e-15)


@pytest.mark.parametrize("unit", [nn.Identity, nn.Tanh])
def test_the_error_enters_below_and_goes_up_through_the_weights(unit):
    """In a linear net ``delta_l = e B W_2^T ... W_l^T``."""
    rules = _network(ifa.build, (6, 9, 8, 7, 4), unit)
    x, y = _batch(6)
    contexts = _learn(rules, x, y)
    inputs = [context[0] for context in contexts]
    delta = TASK.error(contexts[-1][2], y) @ rules[0].matrix
    for k, rule in enumerate(rules[:-1]):
        weight, bias = rule.block.body[0].weight.detach(), rule.block.body[0].bias.detach()
        delta = delta @ weight.t() if k else delta
        if unit is nn.Tanh:
            delta = delta * (1 - torch.tanh(inputs[k] @ weight.t() + bias) ** 2)
        torch.testing.assert_close(rule.block.body[0].weight.grad, delta.t() @ inputs[k], rtol=1e-10, atol=1e-15)
        torch.testing.assert_close(rule.block.body[0].bias.grad, delta.sum(0), rtol=1e-10, atol=1e-15)


def test_the_last_block_learns_by_the_true_error():
    rules = _network(ifa.build, (6, 9, 8, 4))
    x, y = _batch(6)
    contexts = _learn(rules, x, y, weight=0.5)
    last = rules[-1].block
    found = last.body[0].weight.grad.clone()
    last.zero_grad()
    (TASK.loss(last(contexts[-1][0]), y) * 0.5).backward()
    torch.testing.assert_close(found, last.body[0].weight.grad, rtol=1e-10, atol=1e-15)
    assert torch.equal(rules[-1].decode(contexts[-1]), contexts[-1][2]) and rules[0].decode(contexts[0]) is None


@pytest.mark.parametrize("depth", [1, 2, 3, 5])
def test_the_rounds_are_just_enough(depth):
    rules = _network(ifa.build, (6, *[9] * (depth - 1), 4))
    assert {rule.num_rounds for rule in rules} == {2 * (depth - 1)}
    contexts = _learn(rules, *_batch(6))
    assert all(context[-1] is not None for context in contexts[:-1])


def test_a_hard_part_is_gone_around():
    rules = _network(ifa.build, (6, 9, 8, 4), lambda: nn.Sequential(nn.Tanh(), Sign()))
    contexts = _learn(rules, *_batch(6))
    assert set(contexts[1][0].unique().tolist()) == {-1.0, 1.0}
    assert all(p.grad.any() for rule in rules for p in rule.block.parameters())


def test_it_needs_nothing_of_a_test_batch():
    assert not ifa.IndirectFeedbackAlignment.settles_in_evaluation


def test_a_block_of_another_form_is_refused():
    block = Block(nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Tanh()))
    with pytest.raises(ValueError, match="ifa cannot split the unit into f and g"):
        ifa.build(block, BlockSpec(1, 3, (3,), (4,), (4,), TASK))


def test_a_layer_that_is_not_trained_passes_errors_on_and_gathers_none():
    rules = _network(ifa.build, (6, 9, 8, 7, 4))
    frozen = _network(ifa.build, (6, 9, 8, 7, 4))
    frozen[1].block.requires_grad_(False)
    for network in (rules, frozen):
        _learn(network, *_batch(6))
    assert all(p.grad is None for p in frozen[1].block.parameters())
    for k in (0, 2, 3):
        for mine, wanted in zip(frozen[k].block.parameters(), rules[k].block.parameters(), strict=True):
            assert torch.equal(mine.grad, wanted.grad)
