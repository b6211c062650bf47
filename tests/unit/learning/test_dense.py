"""Dense blocks differentiated by hand: the bits of autograd, and which blocks are left to autograd."""

import copy

import pytest
import torch
from torch import nn

from pipeline.data.task import Binary, Classification, Logistic
from pipeline.learning.dense import Dense, accumulate
from pipeline.learning.rule import BlockSpec
from pipeline.network.block import Block
from pipeline.network.hard_units import Sign
from pipeline.rules import (
    brsf,
    dfa,
    drtp,
    fa,
    frsf,
    linear_decoder,
    pred,
    sdfa,
    sigmoid_adjusted,
    slope_annealing,
    straight_through,
    usf,
)

BODIES = {
    "relu": lambda: nn.Sequential(nn.Linear(24, 16), nn.ReLU()),
    "tanh": lambda: nn.Sequential(nn.Linear(24, 16), nn.Tanh()),
    "sigmoid": lambda: nn.Sequential(nn.Flatten(), nn.Linear(24, 16), nn.Sigmoid()),
    "linear": lambda: nn.Sequential(nn.Linear(24, 16)),
    "bare": lambda: nn.Linear(24, 16),
}
RULES = {
    "linear_decoder": (linear_decoder, {}),
    "fixed": (linear_decoder, {"decoder": "fixed"}),
    "cross_entropy": (linear_decoder, {"loss": "cross_entropy"}),
    "pred": (pred, {}),
    "drtp": (drtp, {}),
    "dfa": (dfa, {}),
    "dfa-pre": (dfa, {"inject": "pre"}),
    "sdfa": (sdfa, {}),
    "fa": (fa, {}),
    "usf": (usf, {}),
    "brsf": (brsf, {}),
    "frsf": (frsf, {}),
    "straight_through": (straight_through, {}),
    "sigmoid_adjusted": (sigmoid_adjusted, {}),
    "slope_annealing": (slope_annealing, {}),
}
ESTIMATORS = ("straight_through", "sigmoid_adjusted", "slope_annealing")
"""Rules whose closed form is for blocks with a hard unit."""


def hooked():
    layer = nn.Linear(4, 4)
    layer.register_forward_hook(lambda *_: None)
    return layer


class Residual(nn.Sequential):
    def forward(self, x):
        return x + super().forward(x)


def hooked_weight():
    layer = nn.Linear(4, 4)
    layer.weight.register_hook(lambda g: g)
    return layer


def frozen():
    layer = nn.Linear(4, 4)
    layer.weight.requires_grad_(False)
    return layer


@pytest.mark.parametrize("name", BODIES)
def test_a_body_runs_and_learns_as_under_autograd(name):
    body = BODIES[name]()
    by_hand = copy.deepcopy(body)
    x, dh = torch.randn(9, 24), torch.randn(9, 16)
    dense = Dense.of(Block(by_hand), (24,))
    with torch.no_grad():
        h = dense.forward(x)
        for _ in range(2):  # the second time onto gradients that are there
            dense.learn(x, h, dh)
    for _ in range(2):
        body(x).backward(dh)
    assert torch.equal(h, body(x))
    assert all(torch.equal(p.grad, q.grad) for p, q in zip(body.parameters(), by_hand.parameters(), strict=True))


@pytest.mark.parametrize("weight", [1.0, 0.375])
@pytest.mark.parametrize("task", [Classification(5), Logistic(5), Binary()], ids=["softmax", "logistic", "binary"])
@pytest.mark.parametrize("last", [False, True], ids=["hidden", "last"])
@pytest.mark.parametrize("name", RULES)
def test_a_rule_gives_the_bits_of_autograd(name, last, task, weight):
    module, options = RULES[name]
    width = task.num_outputs if last else 16
    spec = BlockSpec(1, 2 if last else 3, (24,), (width,), (width,), task)
    rules = []
    for closed_form in (True, False):
        torch.manual_seed(3)
        unit = () if last else (nn.Tanh(), Sign()) if name in ESTIMATORS else (nn.ReLU(),)
        body = nn.Sequential(nn.Linear(24, width), *unit)
        rule = module.build(Block(body), spec, **options)
        if not closed_form:
            rule.leave_to_autograd()
        assert (rule.dense is not None) == closed_form
        with torch.no_grad():  # heads that start at 0 would let no gradient through
            for p in rule.parameters():
                p.add_(0.05)
        rules.append(rule)
    x, y = torch.randn(12, 24), torch.randint(max(2, task.num_outputs), (12,))
    feedback = () if rules[0].learns_at_once else (torch.randn(12, task.num_outputs if "dfa" in name else width),)
    losses = []
    for rule in rules:
        for _ in range(2):
            out, context = rule(x, y)
            torch.manual_seed(4)
            learned = rule.learn(context, feedback, weight=weight)
        losses.append((out, *learned.upstream, *(() if learned.loss is None else (learned.loss,))))
        assert not any(t.requires_grad for t in losses[-1])
    assert all(torch.equal(a, b) for a, b in zip(*losses, strict=True))
    for (key, p), q in zip(rules[0].named_parameters(), rules[1].parameters(), strict=True):
        assert torch.equal(p.grad, q.grad), key
    assert all(torch.equal(a, b) for a, b in zip(rules[0].buffers(), rules[1].buffers(), strict=True))


@pytest.mark.parametrize("body", [
    nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.ReLU()),
    nn.Sequential(nn.Linear(4, 4), nn.GELU()),
    nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4)),
    nn.Sequential(nn.Flatten(0), nn.Linear(4, 4)),
    nn.Linear(4, 4, bias=False), nn.Conv2d(1, 1, 1), nn.Sequential(), hooked(), frozen(), hooked_weight(),
    Residual(nn.Linear(4, 4), nn.ReLU()),
])  # fmt: skip
def test_other_bodies_are_left_to_autograd(body):
    assert Dense.of(Block(body), (4,)) is None


def test_samples_that_are_no_vectors_are_left_to_autograd_unless_they_are_flattened():
    linear = nn.Linear(4, 4)
    assert Dense.of(Block(nn.Sequential(linear, nn.ReLU())), (3, 4)) is None
    assert Dense.of(Block(nn.Sequential(nn.Flatten(), nn.Linear(12, 4))), (3, 4)) is not None


def test_an_outlet_that_draws_is_seeded_and_a_plain_dense_block_is_not():
    spec = BlockSpec(0, 2, (24,), (16,), (16,), Classification(5))
    plain = linear_decoder.build(Block(BODIES["relu"]()), spec)
    dropping = linear_decoder.build(Block(BODIES["relu"](), nn.Dropout(0.5)), spec)
    assert not plain.draws and dropping.dense is not None and dropping.draws
    out, (h, _, _) = dropping(torch.randn(40, 24), torch.zeros(40, dtype=torch.int64))
    assert (out == 0).sum() > (h == 0).sum()


def test_gradients_add_up():
    parameter = nn.Parameter(torch.zeros(2))
    accumulate(parameter, torch.ones(2))
    accumulate(parameter, torch.ones(2))
    assert parameter.grad.tolist() == [2.0, 2.0]
