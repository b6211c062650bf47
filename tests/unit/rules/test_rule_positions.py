"""Rules of positions, number by number: what they learn of (batch, positions) is what they learn of so many samples."""

import pytest
import torch
from rule_builders import assert_same, dense, gradients, learn_chain, make_rules
from torch import nn

from pipeline import registry
from pipeline.data.position_tasks import PositionClasses, Regression
from pipeline.data.synthetic import random_labels
from pipeline.data.task import Classification
from pipeline.learning.rule import BlockSpec
from pipeline.network.block import Block

RULES = {
    "backprop": ("backprop", {}), "fa": ("fa", {}), "usf": ("usf", {}), "brsf": ("brsf", {}), "frsf": ("frsf", {}),
    "sdfa": ("sdfa", {}), "pred": ("pred", {}), "linear_decoder": ("linear_decoder", {}),
    "linear_decoder-fixed": ("linear_decoder", {"decoder": "fixed"}),
    "linear_decoder-own-loss": ("linear_decoder", {"loss": "cross_entropy"}),
    "dfa": ("dfa", {}), "dfa-pre": ("dfa", {"inject": "pre"}), "dfa-mlp": ("dfa", {"projection": "mlp"}),
    "dfa-orthogonal": ("dfa", {"matrix": "orthogonal"}), "dfa-learned": ("dfa", {"matrix": "learned"}),
    "aux": ("aux", {}), "aux-norm": ("aux", {"norm": True}),
    "interlock": ("interlock", {"overlap": 3}), "readout": ("readout", {}),
    "lra_rnn": ("lra_rnn", {}), "dni_rnn": ("dni_rnn", {}),
    "dfa-pre-learned": ("dfa", {"inject": "pre", "matrix": "learned"}),
}  # fmt: skip
TASKS = {
    "classes": (PositionClasses(4, (3,)), Classification(4)),
    "map": (PositionClasses(4, (3, 2)), Classification(4)),
    "numbers": (Regression(4, (3,)), Regression(4)),
}


def chain(name, task):
    """Three blocks under a rule, the same weights whatever the task; those that begin at 0 are drawn."""
    torch.default_generator.manual_seed(0)
    blocks = [Block(nn.Sequential(nn.Linear(a, b), nn.Tanh())) for a, b in ((6, 9), (9, 8))]
    blocks.append(Block(nn.Sequential(nn.Linear(8, 4))))
    rule, options = RULES.get(name, (name, {}))
    build = registry.load("pipeline.rules", rule, "rule")
    rules = make_rules(build, blocks, (*task.positions, 6), task, **options)
    for each in rules:
        for parameter in each.parameters():
            if not parameter.any():
                nn.init.normal_(parameter)
    return rules


def takes_positions(name):
    try:
        chain(name, TASKS["classes"][0])
    except ValueError:
        return False
    return True


def test_every_rule_that_takes_positions_is_here():
    found = {name for name in registry.known("pipeline.rules") if takes_positions(name)}
    assert found == {rule for rule, _ in RULES.values()}


@pytest.mark.parametrize("by_autograd", [False, True])
@pytest.mark.parametrize("kind", TASKS)
@pytest.mark.parametrize("name", RULES)
def test_positions_are_learned_as_so_many_samples_in_float64(name, kind, by_autograd):
    task, plain = TASKS[kind]
    x = torch.randn(5, *task.positions, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    y = random_labels(task, 5, torch.Generator().manual_seed(2))
    rows = y.flatten(0, -2) if kind == "numbers" else y.flatten().long()
    one, other = chain(name, task), chain(name, plain)
    for there, here in zip(one, other, strict=True):
        here.load_state_dict(there.state_dict())
        if by_autograd:
            there.leave_to_autograd()
            here.leave_to_autograd()
    torch.default_generator.manual_seed(3)  # the runtime seeds every micro-batch
    given = learn_chain(one, x, y, 0.25)
    torch.default_generator.manual_seed(3)
    expected = learn_chain(other, x.flatten(0, -2), rows, 0.25)
    for there, here in zip(one, other, strict=True):
        assert all(g.any() for g in gradients(here)), "an oracle of zeros would prove nothing"
        assert_same(gradients(there), gradients(here), rtol=1e-12)
    for loss, wanted in zip(given, expected, strict=True):
        assert loss is wanted is None or loss.dtype is torch.float64 and loss.item() == pytest.approx(wanted.item())


def test_unsupervised_losses_are_of_whole_samples():
    spec = BlockSpec(1, 3, (3, 6), (3, 9), (3, 9), PositionClasses(4, (3,)))
    options = {"unsupervised": "recon", "alpha": 0.1}
    with pytest.raises(ValueError, match=r"unsupervised losses are of whole samples \(given: rule\."):
        registry.load("pipeline.rules", "pred", "rule")(dense(6, 9), spec, **options)


def test_decoders_of_positions_refuse_an_output_that_has_none():
    task = PositionClasses(4, (3,))
    for name in ("linear_decoder", "pred", "dfa"):
        with pytest.raises(ValueError, match=r"reads features at each position \(given: an output of shape \(9,\), "
                                             r"expected: \(3, features\)\)\. Let the block keep the positions"):
            registry.load("pipeline.rules", name, "rule")(dense(6, 9), BlockSpec(1, 3, (6,), (9,), (9,), task))
