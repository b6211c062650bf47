"""Alternating minimisation in time: codes beside their closed form, and weights beside autograd on the pairs."""

import pytest
import torch
from rule_builders import make_rules
from torch import nn

from pipeline.data.position_tasks import Regression
from pipeline.data.task import Classification
from pipeline.learning.codes import CodeSearch
from pipeline.network.block import Block
from pipeline.network.recurrent import LastStep, Recurrent
from pipeline.rules import lra_rnn
from pipeline.rules.am import build

LENGTH = 4
X = torch.randn(6, LENGTH, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
MOVES = torch.zeros(6, LENGTH, 5, dtype=torch.float64)
MOVES[:, -1] = torch.randn(6, 5, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def rule_of(unit="tanh", **search):
    torch.manual_seed(0)
    layer = Recurrent("elman", 3, 5, unit=unit, is_half=True)
    read_out = nn.Sequential(LastStep(), nn.Tanh(), nn.Linear(5, 4))
    blocks = [Block(layer), Block(read_out)]
    found = CodeSearch(reduction="features", **search)
    return make_rules(build, blocks, (LENGTH, 3), Classification(4), search=found)[0]


def codes_of(rule, moves=MOVES):
    """The new codes, and the pass."""
    _, steps = rule(X, None)
    recurrent = rule.parts.recurrent.detach()
    drive = steps.h - steps.before @ recurrent.t()
    return rule._codes(steps.h + moves, drive, recurrent), steps, drive


def test_what_is_sent_are_pre_activations():
    rule = rule_of()
    sent, steps = rule(X, None)
    inner = rule.block.body.layer
    torch.testing.assert_close(steps.z, inner(X)[0])
    torch.testing.assert_close(sent.tanh(), steps.z)


def test_o_a5_codes_of_linear_steps_equal_the_closed_form():
    """O-A5: codes of a linear recurrent layer, found from the last step to the first, are those of the closed form."""
    rule = rule_of("linear", code_steps=2000, code_rate=0.02)
    codes, steps, drive = codes_of(rule)
    recurrent = rule.parts.recurrent.detach()
    inverse = torch.linalg.inv(recurrent.t() @ recurrent + torch.eye(5))
    wanted = steps.h[:, -1] + MOVES[:, -1]
    torch.testing.assert_close(codes[:, -1], wanted)
    for t in reversed(range(LENGTH - 1)):
        wanted = ((wanted - drive[:, t + 1]) @ recurrent + steps.h[:, t]) @ inverse
        torch.testing.assert_close(codes[:, t], wanted, rtol=1e-8, atol=1e-10)


def test_a_code_that_stays_moves_nothing_below_and_leaves_no_gradient():
    rule = rule_of()
    codes, steps, _ = codes_of(rule, torch.zeros_like(MOVES))
    torch.testing.assert_close(codes, steps.h, rtol=1e-12, atol=1e-12)
    rule.learn(rule(X, None)[1], (torch.zeros_like(MOVES),))
    assert max(p.grad.abs().max() for p in rule.block.parameters()) < 1e-12


def test_each_step_before_moves_towards_the_code_behind_it():
    rule = rule_of(code_rate=0.05)
    codes, steps, drive = codes_of(rule)
    recurrent = rule.parts.recurrent.detach()
    for t in range(LENGTH - 1):
        before, after = (
            (drive[:, t + 1] + c.tanh() @ recurrent.t() - codes[:, t + 1]).norm() for c in (steps.h[:, t], codes[:, t])
        )
        assert after < before


@pytest.mark.parametrize("reduction", ["features", "mean"])
def test_weights_learn_from_all_pairs_of_new_codes(reduction):
    rule = rule_of(code_rate=0.05)
    object.__setattr__(rule.search, "reduction", reduction)
    codes, steps, _ = codes_of(rule)
    learned = rule.learn(steps, (MOVES,), weight=0.5)
    layer = rule.block.body.layer
    units = torch.cat([torch.zeros(6, 1, 5), codes[:, :-1].tanh()], 1)
    biases = layer.bias_ih_l0 + layer.bias_hh_l0
    off = X @ layer.weight_ih_l0.t() + units @ layer.weight_hh_l0.t() + biases - codes
    loss = off.square().sum() / 6 / (1 if reduction == "features" else 5)
    torch.testing.assert_close(learned.loss, loss.detach(), rtol=1e-10, atol=0)
    wanted = torch.autograd.grad(0.5 * loss, list(layer.parameters()))
    for parameter, gradient in zip(layer.parameters(), wanted, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize(("given", "taken"), [("auto", "features"), ("mean", "mean"), ("features", "features")])
def test_auto_takes_sums_in_time_and_means_are_said_under_plain_descent(given, taken):
    """There are as many layers as steps, however few blocks; means would not get from the last to the first."""
    blocks = [Block(Recurrent("elman", 3, 5, is_half=True)), Block(nn.Sequential(LastStep(), nn.Linear(5, 4)))]
    rules = make_rules(build, blocks, (LENGTH, 3), Classification(4), search=CodeSearch(reduction=given))
    assert [rule.search.reduction for rule in rules] == [taken, given]
    said = [rules[0].unsuited(name, {}) for name in ("sgd", "adam")]
    lost = "means over features leave next to no gradient below the top (given: rule.reduction = mean with "
    assert [text[: len(lost)] for text in said] == [lost if taken == "mean" else "", ""]


def test_sparse_codes_are_smaller():
    sizes = [codes_of(rule_of(code_rate=0.05, sparsity=s))[0][:, :-1].abs().sum() for s in (0.0, 0.01)]
    assert sizes[1] < sizes[0]


def test_it_is_the_first_block_and_has_one_above_it():
    layers = [Block(Recurrent("elman", 3, 3, is_half=True)) for _ in range(2)]
    with pytest.raises(ValueError, match=r"am trains one recurrent layer, the first block \(given: block 1 of 2,"):
        make_rules(build, layers, (LENGTH, 3), Classification(4))


def test_another_rule_does_not_take_pre_activations_for_activations():
    with pytest.raises(ValueError, match="given: Recurrent; .*model.boundary to post"):
        make_rules(lra_rnn.build, [Block(Recurrent("elman", 3, 5, is_half=True)), Block(nn.Linear(5, 4))], (LENGTH, 3),
                   Regression(4, (LENGTH,)))  # fmt: skip
