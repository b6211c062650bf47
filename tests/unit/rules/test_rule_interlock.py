"""Interlock: autograd over the blocks that a gradient passes is the oracle; its two ends are aux and backprop."""

import pytest
import torch
from rule_builders import assert_same, batch, conv, dense, gradients, learn_chain, make_rules, read_out
from torch import nn

from pipeline.learning.aux_head import ReadOut
from pipeline.learning.heads import PooledHead
from pipeline.learning.rule import Topology
from pipeline.rules import aux, backprop
from pipeline.rules.interlock import Interlock, build

K = 5
HEADS = {"linear": ReadOut(), "mlp": ReadOut(head="mlp"), "norm": ReadOut(norm=True)}


def blocks(kind="dense"):
    torch.manual_seed(0)
    if kind == "maps":
        return [conv(2, 4), conv(4, 4, pool=True), conv(4, 3), conv(3, 5, pool=True), read_out((5, 2, 2))], (2, 8, 8)
    return [dense(6, 9), dense(9, 8), dense(8, 7), dense(7, 6), read_out((6,))], (6,)


def rules_of(kind, **options):
    found, in_shape = blocks(kind)
    torch.manual_seed(1)
    rules = make_rules(build, found, in_shape, **options)
    for rule in rules[:-1]:
        nn.init.normal_(rule.head.linear.weight)
    return rules, in_shape


def learned(rules, x, y, weight=1.0):
    """As a stage does it: what needs no message at once, from the top; then the messages, from the top."""
    contexts, losses = [], [None] * len(rules)
    for rule in rules:
        x, context = rule(x, y)
        contexts.append(context)
    sent = {}
    for k in reversed(range(len(rules))):
        if rules[k].learns_at_once:
            found = rules[k].learn(contexts[k], (), weight=weight)
            sent[k], losses[k] = found.upstream, found.loss
    for k in reversed(range(len(rules) - 1)):
        found = rules[k].learn(contexts[k], sent[k + 1], weight=weight)
        losses[k] = found.loss
        sent[k] = sent.get(k, ()) + found.upstream
    return losses, sent


@pytest.mark.parametrize("overlap", [2, 3, 4, 5])
@pytest.mark.parametrize(
    ("kind", "head"), [("dense", "linear"), ("dense", "mlp"), ("maps", "linear"), ("maps", "norm")]
)
def test_each_block_descends_on_the_loss_so_many_blocks_above(overlap, kind, head):
    rules, in_shape = rules_of(kind, overlap=overlap, read_out=HEADS[head])
    x, y = batch(in_shape)
    out, losses = x, []
    for rule in rules:
        h = rule.block.body(out)
        out = rule.block.outlet(h)
        scores = out if rule.head is None else rule.head(h if isinstance(rule.head, PooledHead) else out)
        losses.append(rule.spec.task.loss(scores, y))
    expected = [
        (*torch.autograd.grad(losses[min(k + overlap - 1, K - 1)], list(rule.block.parameters()), retain_graph=True),
         *(torch.autograd.grad(losses[k], list(rule.head.parameters()), retain_graph=True) if rule.head else ()))
        for k, rule in enumerate(rules)
    ]  # fmt: skip
    found, sent = learned(rules, x, y, weight=0.5)
    for rule, wanted in zip(rules, expected, strict=True):
        assert_same(gradients(rule), [g / 2 for g in wanted])
    assert [loss.item() for loss in found] == pytest.approx([loss.item() for loss in losses], rel=1e-12)
    sizes = [min(k + overlap - 2, K - 1) - max(k, overlap - 1) + 1 for k in range(1, K)]
    assert [len(sent[k]) for k in range(K)] == [0, *sizes] and max(sizes) <= rules[1].most_feedback
    assert all(t.shape == (16, *rules[k].spec.in_shape) and not t.requires_grad for k in range(K) for t in sent[k])


def test_over_all_blocks_it_is_backpropagation_bit_for_bit():
    rules, in_shape = rules_of("dense", overlap=K)
    plain = make_rules(backprop.build, blocks("dense")[0], in_shape)
    x, y = batch(in_shape)
    learned(rules, x, y)
    learn_chain(plain, x, y)
    for mine, theirs in zip(rules, plain, strict=True):
        assert all(map(torch.equal, gradients(mine.block), gradients(theirs.block)))
    more = make_rules(build, blocks("dense")[0], in_shape, overlap=K + 9)
    assert [rule.overlap for rule in more] == [K] * K


def test_over_one_block_it_is_aux():
    found, in_shape = blocks()
    torch.manual_seed(1)
    rules = make_rules(build, found, in_shape, overlap=1, read_out=ReadOut(norm=True))
    found, in_shape = blocks()
    torch.manual_seed(1)
    same = make_rules(aux.build, found, in_shape, read_out=ReadOut(norm=True))
    assert [type(r) for r in rules] == [type(r) for r in same] and rules[0].topology is Topology.LOCAL
    for mine, theirs in zip(rules, same, strict=True):
        assert all(map(torch.equal, mine.state_dict().values(), theirs.state_dict().values()))


def test_one_block_is_plain_autograd():
    (rule,) = make_rules(build, [read_out((6,))], (6,))
    x, y = batch((6,))
    loss = rule.spec.task.loss(rule.block(x), y)
    expected = torch.autograd.grad(loss, list(rule.parameters()))
    found = rule.learn(rule(x, y)[1], ())
    assert torch.equal(found.loss, loss) and found.upstream == () and all(map(torch.equal, gradients(rule), expected))


def test_at_two_nothing_above_is_waited_for():
    """A block's message is there before any message has come; from three on it is made of those from above."""
    assert [rule.learns_at_once for rule in rules_of("dense", overlap=2)[0]] == [True] * K
    later = rules_of("dense", overlap=3)[0]
    assert [rule.learns_at_once for rule in later] == [False] * (K - 1) + [True]
    assert not any(rule.keeps_graph for rule in later)
    assert [rule.keeps_graph for rule in rules_of("dense", overlap=2)[0]] == [True] * (K - 1) + [False]
    assert isinstance(later[0], Interlock) and later[0].topology is Topology.NEIGHBOUR


def test_a_first_block_without_parameters_has_a_read_out_and_learns_nothing():
    found, in_shape = blocks()
    rules = make_rules(build, [type(found[0])(nn.Tanh()), *found], in_shape, overlap=3)
    losses, _ = learned(rules, *batch(in_shape))
    assert all(loss is not None for loss in losses) and all(p.grad is not None for p in rules[0].head.parameters())


def test_a_middle_block_whose_weights_are_fixed_hands_gradients_down_and_learns_nothing():
    found, in_shape = blocks()
    for parameter in found[2].parameters():
        parameter.requires_grad_(False)
    rules = make_rules(build, found, in_shape, overlap=2)
    x, y = batch(in_shape)
    _, sent = learned(rules, x, y)
    assert len(sent[2]) == 1 and sent[2][0].shape == (len(x), 8)
    assert all(p.grad is None for p in rules[2].block.parameters())
    assert all(p.grad is not None for k in (0, 1, 3) for p in rules[k].block.parameters())


@pytest.mark.parametrize("overlap", [2, 3])
def test_the_read_outs_gradient_is_not_held_until_the_message_comes(overlap):
    rules, in_shape = rules_of("dense", overlap=overlap)
    x, y = batch(in_shape)
    _, context = rules[0](x, y)
    for feedback in ((), tuple(torch.zeros_like(context.out) for _ in range(overlap - 1))):
        if feedback or rules[0].learns_at_once:
            rules[0].learn(context, feedback)
        assert context.leaf is None or context.leaf.grad is None
