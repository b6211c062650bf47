"""Glob+sim against autograd through the whole network."""

import pytest
import torch
from rule_builders import batch, conv, dense, gradients, learn_chain, make_rules, read_out, true_gradients
from torch import nn

from pipeline.learning.rule import Topology
from pipeline.learning.similarity import similarity_loss
from pipeline.rules.glob_sim import build

NETWORKS = pytest.mark.parametrize(
    ("blocks", "shape"),
    [
        (lambda: [dense(6, 8, norm=True), dense(8, 7), read_out((7,))], (6,)),
        (lambda: [conv(2, 4), conv(4, 6, pool=True), read_out((6, 3, 3))], (2, 6, 6)),
    ],
    ids=["dense", "conv"],
)


def chain(blocks, shape, **options):
    """Rules whose output block lets an error through."""
    rules = make_rules(build, blocks, shape, **options)
    assert not blocks[-1].body[1].weight.any()
    nn.init.normal_(blocks[-1].body[1].weight)
    return rules


def close(given, expected):
    for a, b in zip(given, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-13)


@NETWORKS
def test_o_s9_without_sim_it_is_backprop(blocks, shape):
    """O-S9: glob_sim without the similarity losses is backpropagation."""
    blocks = blocks()
    rules = chain(blocks, shape, sim_weight=0.0)
    x, y = batch(shape)
    expected = true_gradients(blocks, x, y, rules[0].spec.task.loss)
    learn_chain(rules, x, y)
    for rule, grads in zip(rules, expected, strict=True):
        close(gradients(rule.block), grads)
    assert not any(p.grad.any() for rule in rules[:-1] for p in rule.project.parameters())


@NETWORKS
@pytest.mark.parametrize("weight", [1.0, 0.25])
def test_gradients_are_those_of_the_sum_of_all_losses(blocks, shape, weight):
    blocks = blocks()
    rules = chain(blocks, shape, sim_weight=0.7)
    x, y = batch(shape)
    out, total = x, 0.0
    for rule in rules[:-1]:
        h = rule.block.body(out)
        total = total + 0.7 * similarity_loss(rule.project(h), y, 5)
        out = rule.block.outlet(h)
    total = (total + rules[0].spec.task.loss(rules[-1].block(out), y)) * weight
    expected = torch.autograd.grad(total, [p for rule in rules for p in rule.parameters()])
    losses = learn_chain(rules, x, y, weight=weight)
    close([g for rule in rules for g in gradients(rule)], expected)
    assert all(loss > 0 and not loss.requires_grad for loss in losses)


def test_evaluation_computes_no_similarity_and_only_the_last_block_decodes():
    rules = chain([dense(4, 6), read_out((6,))], (4,))
    assert rules[0].sim_weight == 1.0 and not rules[0].splits_batches and rules[0].topology is Topology.NEIGHBOUR
    x, y = batch((4,))
    rules[0].eval()
    with torch.no_grad():
        out, context = rules[0](x, y)
    assert context[3] is None and rules[0].decode(context) is None
    scores, context = rules[1](out, y)
    assert torch.equal(rules[1].decode(context), scores)


def test_refuses_a_negative_weight():
    with pytest.raises(ValueError, match=r"given: rule\.sim_weight = -0\.5, expected: at least 0\)\. Change it"):
        make_rules(build, [dense(4, 6)], (4,), sim_weight=-0.5)
