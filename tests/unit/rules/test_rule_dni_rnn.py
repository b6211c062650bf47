"""Synthetic gradients at the edges of chunks, beside backpropagation through the whole sequence."""

import pytest
import torch
from rule_builders import assert_same, gradients, learn_chain, make_rules
from torch import nn

from pipeline.data.position_tasks import Regression
from pipeline.network.block import Block
from pipeline.network.recurrent import Recurrent
from pipeline.rules.dni_rnn import build

CELLS = ["elman", "lstm", "gru"]
DATA = torch.randn(2, 6, 4, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
X, Y = DATA[0], DATA[1]


class Given(nn.Module):
    """A model that says what it is told to, and is not trained."""

    def __init__(self, gradient):
        super().__init__()
        self.gradient, self.nothing = gradient, nn.Parameter(torch.zeros((), dtype=torch.float64))
        self.asked = []

    def forward(self, state, labels):
        self.asked.append(state.clone())
        return self.gradient.view(state.shape) + self.nothing


def rules_of(cell="elman", length=2, model=None, **options):
    torch.manual_seed(0)
    blocks = [Block(Recurrent(cell, 3, 5)), Block(nn.Linear(5, 3))]
    rules = make_rules(build, blocks, (length, 3), Regression(3, (length,)), **options)
    if model is not None:
        rules[0].models[0] = model
    return rules


def announce(rules, *, is_start, is_end):
    rules[0].block.body.carried.announce(trains=True, rows=slice(6), num_rows=6, is_start=is_start, is_end=is_end)


def loss_of(out, y):
    """A chunk's own loss: a mean over samples and its steps."""
    return (out - y).square().mean()


def whole(rules, lengths):
    """Losses of all chunks of a sequence, and the state behind each, in one graph."""
    layer, read_out = rules[0].block.body.layer, rules[1].block
    state, losses, states = None, [], []
    for x, y in zip(X.split(lengths, 1), Y.split(lengths, 1), strict=True):
        out, state = layer(x, state)
        losses.append(loss_of(read_out(out), y))
        states.append(state)
    return losses, states


def packed(state):
    """(rows, parts, width) of what torch returns."""
    return torch.stack([part[0] for part in (state if isinstance(state, tuple) else (state,))], 1)


@pytest.mark.parametrize("cell", CELLS)
def test_o_n6_a_model_that_is_right_makes_two_chunks_backpropagation_through_both(cell):
    """O-N6: with a model that says the true gradient of what follows, two chunks have the gradient of one graph through
    both."""
    rules = rules_of(cell)
    losses, states = whole(rules, 2)
    parts = states[0] if isinstance(states[0], tuple) else (states[0],)
    tail = torch.stack([g[0] for g in torch.autograd.grad(losses[1], parts, retain_graph=True)], 1) * 6
    blocks = [rule.block for rule in rules]
    wanted = [torch.autograd.grad(sum(losses), list(block.parameters()), retain_graph=True) for block in blocks]
    rules[0].models[0] = Given(tail)
    announce(rules, is_start=True, is_end=False)
    learn_chain(rules, X[:, :2], Y[:, :2])
    torch.testing.assert_close(rules[0].models[0].asked[0].view(tail.shape), packed(states[0]).detach())
    announce(rules, is_start=False, is_end=True)
    learn_chain(rules, X[:, 2:], Y[:, 2:])
    for block, gradient in zip(blocks, wanted, strict=True):
        assert_same(gradients(block), gradient)


def test_without_a_model_s_word_it_is_backpropagation_truncated_at_the_edges():
    """What a model says at first is 0."""
    rules = rules_of()
    layer, read_out = rules[0].block.body.layer, rules[1].block
    _, state = layer(X[:, :2])
    announce(rules, is_start=True, is_end=False)
    learn_chain(rules, X[:, :2], Y[:, :2])
    rules[0].zero_grad(), rules[1].zero_grad()
    announce(rules, is_start=False, is_end=False)
    learn_chain(rules, X[:, 2:], Y[:, 2:])
    loss = loss_of(read_out(layer(X[:, 2:], state.detach())[0]), Y[:, 2:])
    assert_same(gradients(layer), torch.autograd.grad(loss, list(layer.parameters())))


@pytest.mark.parametrize("weight", [1.0, 0.25])
def test_a_model_learns_from_what_reaches_the_left_edge_its_own_word_included(weight):
    told = torch.randn(6, 5, dtype=torch.float64)
    rules = rules_of(model=Given(told))
    layer, read_out = rules[0].block.body.layer, rules[1].block
    _, state = layer(X[:, :2])
    start = state.detach().requires_grad_()
    out, end = layer(X[:, 2:], start)
    objective = 6 * loss_of(read_out(out), Y[:, 2:]) + (told * end[0]).sum()
    (target,) = torch.autograd.grad(objective, start)
    announce(rules, is_start=True, is_end=False)
    learn_chain(rules, X[:, :2], Y[:, :2], weight)
    assert rules[0].models[0].nothing.grad is None
    announce(rules, is_start=False, is_end=False)
    losses = learn_chain(rules, X[:, 2:], Y[:, 2:], weight)
    distance = told - target[0]
    torch.testing.assert_close(losses[0], distance.square().sum(1).mean(), rtol=1e-10, atol=0)
    wanted = weight * 2 * distance.sum() / 6
    torch.testing.assert_close(rules[0].models[0].nothing.grad, wanted, rtol=1e-10, atol=0)


@pytest.mark.parametrize(("cell", "size"), [("elman", 5), ("lstm", 10), ("gru", 5)])
def test_a_model_is_as_wide_as_the_state_and_has_a_rate_of_its_own(cell, size):
    rule, last = rules_of(cell, layers=1, width=7, synthesiser_rate=0.5)
    shapes = [tuple(p.shape) for p in rule.models[0].parameters() if p.dim() == 2]
    assert sorted(shapes) == sorted([(7, size), (size, 7)])
    assert [rate for _, rate in rule.parameter_groups()] == [1.0, 0.5]
    assert len(last.models) == 0


def test_whole_sequences_are_learned_as_by_backprop():
    rules = rules_of(length=4)
    learn_chain(rules, X, Y)
    layer, read_out = rules[0].block.body.layer, rules[1].block
    assert_same(gradients(layer), torch.autograd.grad(loss_of(read_out(layer(X)[0]), Y), list(layer.parameters())))
    assert all(p.grad is None for p in rules[0].models.parameters())


def test_a_first_layer_of_fixed_weights_whose_gradients_are_cut_teaches_its_model_alone():
    """No error from behind the chunk goes through the cut, and no weight in front of it would learn from one."""
    torch.manual_seed(0)
    blocks = [Block(Recurrent("elman", 3, 5, truncate=1).requires_grad_(False)), Block(nn.Linear(5, 3))]
    rules = make_rules(build, blocks, (2, 3), Regression(3, (2,)))
    for chunk in range(2):
        announce(rules, is_start=chunk == 0, is_end=False)
        learn_chain(rules, X[:, :2], Y[:, :2])
    assert all(g is None for g in gradients(blocks[0])) and all(g is not None for g in gradients(blocks[1]))
    assert all(g is not None for g in gradients(rules[0].models[0].layers[-1]))
