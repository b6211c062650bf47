"""Small networks under equilibrium propagation, and one batch through them, for the tests of this folder."""

import torch
from rule_builders import CLASSES, batch, dense, gradients, make_rules
from tests.support.exchange import run_forward, settle
from torch import nn

from pipeline.learning.rule import BatchNote
from pipeline.rules.eqprop import Relaxation, build

WIDTHS = (6, 9, 8, CLASSES)
SETTLED = {"free_rounds": 150, "nudged_rounds": 150}
"""Long enough for the fixed point in float64, with the weights of :func:`network`."""


class Clip(nn.Hardtanh):
    def __init__(self):
        super().__init__(0.0, 1.0)


FORMS = {"prototypical": nn.Tanh, "energy": Clip}
SHIFT = {"prototypical": 0.0, "energy": 0.4}
NUDGE = {"prototypical": 1.0, "energy": 2.0}
"""The cost of the energy-based form has no half, so the same beta nudges twice as far."""


def network(unit=nn.Tanh, widths=WIDTHS, scale=0.5, shift=0.0, seed=0):
    """Weights so small that the states have one fixed point; ``shift`` keeps clipped states off their ends."""
    torch.manual_seed(seed)
    *hidden, num_outputs = widths[1:]
    blocks = [dense(a, b, unit) for a, b in zip(widths, hidden)]
    blocks.append(dense(widths[-2], num_outputs, unit))
    for block in blocks:
        nn.init.normal_(block.body[0].weight, std=scale / block.body[0].in_features ** 0.5)
        nn.init.constant_(block.body[0].bias, shift)
    return blocks


def made(blocks, form="prototypical", rates=(), **options):
    return make_rules(build, blocks, WIDTHS[:1], relaxation=Relaxation(form=form, **options), rates=rates)


def inputs(size=16):
    x, y = batch(WIDTHS[:1], size)
    return x.sigmoid(), y


def settled(rules, x, y):
    contexts = run_forward(rules, x, y)
    settle(rules, contexts)
    return contexts


def learned(rules, x, y, weight=1.0):
    """Gradients of one batch, block by block; the blocks' own are cleared."""
    for rule, context in zip(rules, settled(rules, x, y), strict=True):
        rule.learn(context, (), weight=weight)
    found = [gradients(rule) for rule in rules]
    for rule in rules:
        rule.zero_grad()
    return found


def flat(found):
    return torch.cat([g.flatten() for group in found for g in group])


def noted(rules, samples, seed=0):
    for rule in rules:
        rule.batch_note = BatchNote(samples, seed)


def with_store(num_train=16, **options):
    rules = made(network(Clip, scale=1.5), "energy", persistent=True, free_rounds=3, **options)
    for rule in rules:
        rule.register_buffer("states", torch.zeros(num_train, *rule.spec.out_shape, dtype=torch.float64))
    return rules
