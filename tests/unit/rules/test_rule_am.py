"""Alternating minimisation beside backprop, closed forms and the sizes that its source's settings give."""

import pytest
import torch
from rule_builders import assert_same, batch, dense, gradients, learn_chain, make_rules, read_out, true_gradients
from torch import nn

from pipeline.data.task import Classification
from pipeline.learning.codes import CodeSearch, nesterov
from pipeline.learning.rule import BlockSpec
from pipeline.models import half_mlp
from pipeline.network.block import Block
from pipeline.network.hard_units import Sign
from pipeline.rules.am import build

TASK = Classification(5)
RATE, MOMENTUM, MU = 0.1, 0.9, 0.5


def half(num_in, num_out, unit=nn.Tanh, *behind):
    return Block(nn.Sequential(unit(), nn.Linear(num_in, num_out), *behind))


def blocks_of(unit=nn.Tanh):
    torch.manual_seed(0)
    return [dense(6, 9, activation=None), half(9, 8, unit), half(8, 7, unit), half(7, 5, unit)]


def rules_of(blocks, **options):
    given = {"code_rate": RATE, "code_momentum": MOMENTUM, "mu": MU, "reduction": "features", **options}
    return make_rules(build, blocks, (6,), TASK, search=CodeSearch(**given))


def ran(rules, x, y):
    """The context of each block, and what it sent."""
    contexts, outs = [], []
    for rule in rules:
        x, context = rule(x, y)
        contexts.append(context)
        outs.append(x)
    return contexts, outs


def learned(rules, contexts, weight=1.0):
    """The code below each block but the first, from the top down; what is sent is its distance from the old one."""
    message, codes = (), []
    for rule, context in zip(reversed(rules), reversed(contexts)):
        message = rule.learn(context, message, weight=weight).upstream
        codes += [context[0] + move for move in message]
    return codes


def test_o_a1_without_code_steps_no_hidden_block_has_a_gradient():
    """O-A1: without steps on the codes the gradients of hidden blocks are exactly 0."""
    for norm in (False, True):
        torch.manual_seed(0)
        blocks = [dense(6, 9, norm=norm), dense(9, 8, norm=norm), read_out((8,))]
        rules = rules_of(blocks, code_steps=0)
        learn_chain(rules, *batch((6,)))
        assert all(g is not None and not g.any() for rule in rules[:-1] for g in gradients(rule))
        assert all(g.any() for g in gradients(rules[-1]))


def test_a_code_that_stays_leaves_no_gradient_where_it_was_rounded_on_its_way():
    """The block above searches from what came over the wire; its code's distance from that is what is asked for."""
    rules = rules_of(blocks_of(), code_steps=0)
    x, y = batch((6,))
    contexts = []
    for rule in rules:
        x, context = rule(x, y)
        contexts.append(context)
        x = x.bfloat16().double()
    learned(rules, contexts)
    assert all(g is not None and not g.any() for rule in rules[:-1] for g in gradients(rule))


@pytest.mark.parametrize("reduction", ["mean", "features"])
def test_o_a2_one_step_from_the_old_inputs_is_backprop_block_by_block(reduction):
    """O-A2: after one step on the codes, gradients at the old inputs have backpropagation's direction, block by block.

    ``dc_L = -rate (1 + m) / mu dloss/dc_L``, ``dc_l = rate (1 + m) 2 s J^T dc_(l+1)``, ``G_W = -2 s / B dc^T a``,
    s the factor of a sum over features.
    """
    blocks = blocks_of()
    rules = rules_of(blocks, code_steps=1, reduction=reduction)
    x, y = batch((6,))
    contexts, outs = ran(rules, x, y)
    codes = learned(rules, contexts)[::-1]
    scales = [1.0 / out[0].numel() if reduction == "mean" else 1.0 for out in outs]
    leaves = [out.clone().requires_grad_() for out in outs[:-1]]
    moves = [code - out for code, out in zip(codes, outs[:-1], strict=True)]
    loss = len(y) * TASK.loss(blocks[3](leaves[2]), y)
    (slope,) = torch.autograd.grad(loss, leaves[2])
    assert_same([moves[2]], [-RATE * (1 + MOMENTUM) / MU * slope])
    for k in (2, 1):
        (pulled,) = torch.autograd.grad(blocks[k](leaves[k - 1]), leaves[k - 1], moves[k])
        assert_same([moves[k - 1]], [RATE * (1 + MOMENTUM) * 2 * scales[k] * pulled])
    true = true_gradients(blocks, x, y, TASK.loss)
    for k, old in enumerate((x, *outs[:2])):
        assert_old_inputs_give(blocks[k], old, moves[k], -2 * scales[k] / len(y), rules[k], contexts[k], codes[k])
        mine, wanted = (torch.cat([g.flatten() for g in found]) for found in (gradients(rules[k]), true[k]))
        assert_same([mine / mine.norm()], [wanted / wanted.norm()])


def assert_old_inputs_give(block, old, move, factor, rule, context, target):
    """The regression's gradient at the code that was: collinear with the derivative along the move."""
    expected = torch.autograd.grad(block(old), list(block.parameters()), factor * move)
    rule.zero_grad()
    rule.regress(old, target, context[2], (context[3].tensors(), context[4]), 1.0)
    assert_same(gradients(rule), expected, rtol=1e-9)


def test_o_a2_new_inputs_are_not_quite_backprops_direction():
    """O-A2: at the new inputs, which the rule uses, gradients have nearly that direction and not exactly.

    Both sides of the regression are new codes.
    """
    blocks = blocks_of()
    rules = rules_of(blocks, code_steps=1)
    x, y = batch((6,))
    contexts, outs = ran(rules, x, y)
    codes = learned(rules, contexts)[::-1]
    found = gradients(rules[2])[0]
    off = blocks[2](codes[1]).detach() - codes[2]
    wanted = 2 / len(y) * off.t() @ torch.tanh(codes[1])
    assert_same([found], [wanted])
    old = torch.autograd.grad(blocks[2](outs[1]), list(blocks[2].parameters()), outs[2] - codes[2])[0]
    cosine = nn.functional.cosine_similarity(found.flatten(), old.flatten(), 0)
    assert 0.8 < cosine < 1 - 1e-8


def test_o_a4_codes_stay_where_the_distance_outweighs_the_loss():
    """O-A4: with mu towards infinity no code moves."""
    rules = rules_of(blocks_of(), mu=1e30)
    contexts, outs = ran(rules, *batch((6,)))
    for code, out in zip(learned(rules, contexts)[::-1], outs):
        assert_same([code], [out], rtol=1e-15)


def test_o_a5_the_search_ends_at_the_closed_form():
    """O-A5: the search for the code below a linear block ends at ``(W^T W + 1)^-1 (W^T t + c0)``."""
    torch.manual_seed(0)
    blocks = [dense(6, 4, activation=None), Block(nn.Linear(4, 7, bias=False)), read_out((7,))]
    rule = rules_of(blocks, code_steps=3000, code_rate=0.02)[1]
    start, target = batch((4,))[0], batch((7,), seed=3)[0]
    out, context = rule(start, torch.zeros(16, dtype=torch.int64))
    weight = blocks[1].body.weight.detach()
    wanted = torch.linalg.solve(weight.t() @ weight + torch.eye(4, dtype=torch.float64), (target @ weight + start).t())
    assert_same([start + rule.learn(context, (target - out,)).upstream[0]], [wanted.t()])


def found_codes(depth, reduction, dtype=torch.float64):
    """New codes and old ones from the top down, and the rules, at the start: 784 inputs, 100 units, batches of 200,
    batch normalisation, rates of the source."""
    torch.manual_seed(0)
    task = Classification(10)
    blocks = [b.make() for b in half_mlp.build((784,), 10, width=[100] * depth)]
    search = CodeSearch(reduction=reduction)
    rules = [rule.to(dtype) for rule in make_rules(build, blocks, (784,), task, search=search)]
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(200, 784, generator=generator, dtype=torch.float64).to(dtype)
    contexts, outs = ran(rules, x, torch.randint(10, (200,), generator=generator))
    return learned(rules, contexts), outs[-2::-1], rules


def sizes(depth, reduction):
    """Relative moves of the codes and mean absolute gradients of the hidden weights, from the top down."""
    codes, outs, rules = found_codes(depth, reduction)
    moves = [((c - o).norm() / o.norm()).item() for c, o in zip(codes, outs, strict=True)]
    return moves, [gradients(rule)[0].abs().mean().item() for rule in rules[-2::-1]]


MOVES = {
    (2, "mean"): [0.29, 1.8e-4], (3, "mean"): [0.30, 1.8e-4, 1.0e-7], (4, "mean"): [0.30, 1.8e-4, 1.0e-7],
    (2, "features"): [0.29, 1.6e-2], (3, "features"): [0.29, 1.7e-2, 9.5e-4],
    (4, "features"): [0.29, 1.7e-2, 9.5e-4, 5.4e-5],
}  # fmt: skip
SLOPES = {2: [5.6e-4, 3.5e-7], 3: [5.7e-4, 3.5e-7, 1.9e-10]}
"""Found apart from this code, from the settings of the source: relative moves of the codes, and mean gradients of the
hidden weights by means over features, from the top down."""


@pytest.mark.parametrize(("depth", "reduction"), MOVES)
def test_o_a8_means_leave_lower_blocks_where_they_are_and_sums_do_not(depth, reduction):
    """O-A8: moves of codes and sizes of gradients at the source's settings are those found apart from this code, within
    a fifth.

    Each block down costs means a factor of ``B d / (2 rate g)``, g the sum of five steps of a unit gradient.
    """
    moves, slopes = sizes(depth, reduction)
    wanted = MOVES[depth, reduction]
    assert moves[: len(wanted)] == pytest.approx(wanted, rel=0.2)
    if reduction == "mean" and depth in SLOPES:
        assert slopes == pytest.approx(SLOPES[depth], rel=0.2)
    if reduction == "mean":
        factors = [above / below for above, below in zip(moves[1:], moves[2:])]
        assert factors == pytest.approx([200 * 100 / (2 * 0.3 * 16.8)] * (depth - 2), rel=0.2)


def test_o_a8_the_lowest_of_four_codes_stands_still_in_float32():
    """O-A8: in float32, with means, the lowest of four codes stays where it is but for one entry in a hundred."""
    still = []
    for dtype in (torch.float32, torch.float64):
        codes, outs, _ = found_codes(4, "mean", dtype)
        still.append((codes[3] == outs[3]).double().mean().item())
    assert still[0] > 0.99 and still[1] < 0.6


def test_o_a8_five_nesterov_steps_of_a_unit_gradient():
    """O-A8: five steps of a unit gradient add up to 16.8."""
    end = nesterov(torch.zeros(1, dtype=torch.float64), torch.ones_like, 5, 1.0, 0.9)
    assert end.item() == pytest.approx(-16.8, abs=0.05)


@pytest.mark.parametrize(("product", "stable"), [(1.35, True), (1.37, False)])
def test_a_search_is_stable_below_1_36_over_the_curvature(product, stable):
    """The greatest step of Nesterov's descent with momentum m: ``(2 + 2 m) / (1 + 2 m)``."""
    end = nesterov(torch.ones(1, dtype=torch.float64), lambda c: product * c, 2000, 1.0, 0.9)
    assert (end.abs() < 1e-3).item() is stable and (end.abs() > 1e3).item() is not stable


def test_nesterov_is_torchs():
    torch.manual_seed(0)
    start = torch.randn(7, dtype=torch.float64)
    p = nn.Parameter(start.clone())
    optimizer = torch.optim.SGD([p], lr=0.05, momentum=0.9, nesterov=True)
    for _ in range(6):
        optimizer.zero_grad()
        p.pow(4).sum().backward()
        optimizer.step()
    assert_same([nesterov(start, lambda c: 4 * c**3, 6, 0.05, 0.9)], [p.detach()])


def test_o_a9_a_sign_is_sent_as_plus_and_minus_one_and_has_the_identitys_derivative():
    """O-A9: a layer of signs has values of -1 and 1, and the derivative of the identity in what is sent down."""
    torch.manual_seed(0)
    blocks = [dense(6, 9, activation=None), Block(nn.Sequential(nn.Tanh(), Sign(), nn.Linear(9, 8))), read_out((8,))]
    rules = rules_of(blocks, code_steps=1)
    contexts, outs = ran(rules, *batch((6,)))
    read = []
    blocks[1].body[2].register_forward_pre_hook(lambda module, inputs: read.append(inputs[0].detach()))
    rules[1].layers.forward(outs[0])
    assert set(read[0].unique().tolist()) == {-1.0, 1.0}
    message = rules[2].learn(contexts[2], ()).upstream
    found = rules[1].learn(contexts[1], message).upstream[0]
    linear = blocks[1].body[2]
    pulled = message[0] @ linear.weight * (1 - torch.tanh(outs[0]) ** 2)
    assert_same([found], [RATE * (1 + MOMENTUM) * 2 * pulled.detach()])


def test_codes_do_not_depend_on_how_a_batch_is_cut():
    blocks = blocks_of()
    rules = rules_of(blocks)
    x, y = batch((6,))
    whole = learned(rules, ran(rules, x, y)[0])
    wanted = [[g.clone() for g in gradients(rule)] for rule in rules]
    for rule in rules:
        rule.zero_grad()
    parts = [learned(rules, ran(rules, x[k : k + 4], y[k : k + 4])[0], 0.25) for k in range(0, 16, 4)]
    assert_same([torch.cat(codes) for codes in zip(*parts)], whole)
    for rule, expected in zip(rules, wanted):
        assert_same(gradients(rule), expected)


def test_batch_norm_is_frozen_while_a_code_is_searched_for_and_counts_each_batch_once():
    blocks = [dense(6, 9, activation=None), half(9, 8, nn.Tanh, nn.BatchNorm1d(8)), read_out((8,))]
    rule = rules_of(blocks, code_steps=1)[1]
    norm, linear = blocks[1].body[2], blocks[1].body[1]
    x, y = batch((9,))
    out, context = rule(x, y)
    counted = {key: value.clone() for key, value in norm.state_dict().items()}
    move = batch((8,), seed=4)[0]
    (found,) = rule.learn(context, (move,)).upstream
    assert all(torch.equal(norm.state_dict()[key], value) for key, value in counted.items())
    assert norm.num_batches_tracked == 1
    a = torch.tanh(x) @ linear.weight.t() + linear.bias
    slope = move * norm.weight / (a.var(0, correction=0) + norm.eps).sqrt()
    pulled = slope @ linear.weight * (1 - torch.tanh(x) ** 2)
    assert_same([found], [(RATE * (1 + MOMENTUM) * 2 * pulled).detach()], rtol=1e-9)


def test_dropout_has_one_mask_for_a_micro_batch():
    blocks = [dense(6, 9, activation=None), Block(nn.Sequential(nn.Dropout(0.5), nn.Linear(9, 8))), read_out((8,))]
    rule = rules_of(blocks)[1]
    x, y = batch((9,))
    out, context = rule(x, y)
    mask = context[4][0]
    assert set(mask.unique().tolist()) == {0.0, 2.0}
    assert_same([out], [blocks[1].body[1](x * mask).detach()])
    (move,) = rule.learn(context, (torch.ones_like(out),)).upstream
    assert torch.equal(move == 0.0, mask == 0.0)


def test_sparsity_pulls_every_feature_towards_zero():
    found = []
    for sparsity in (0.0, 0.2):
        rule = rules_of(blocks_of(), code_steps=1, sparsity=sparsity)[1]
        x, y = batch((9,))
        out, context = rule(x, y)
        found += rule.learn(context, (torch.ones_like(out),)).upstream
    assert_same([found[1] - found[0]], [-RATE * (1 + MOMENTUM) * 0.2 / MU * batch((9,))[0].sign()], rtol=1e-9)


def test_auto_takes_means_up_to_two_hidden_blocks():
    for count, scale in ((3, 0.125), (4, 1.0)):
        assert CodeSearch().scale(torch.zeros(2, 8), count) == scale


def test_it_learns_with_sums_under_plain_descent():
    """Through three hidden blocks, of which means would move the top one."""
    x, y = batch((6,), size=64)
    losses = {}
    for trained in ("all", "top"):
        rules = rules_of(blocks_of(), code_rate=0.05, mu=0.1)
        chosen = rules if trained == "all" else rules[-1:]
        optimizer = torch.optim.SGD([p for rule in chosen for p in rule.parameters()], lr=0.2)
        for _ in range(100):
            optimizer.zero_grad()
            loss = learn_chain(rules, x, y)[-1]
            optimizer.step()
        losses[trained] = loss.item()
    assert losses["all"] < 0.8 * losses["top"]


UNREPEATABLE = {
    "AlphaDropout": nn.AlphaDropout(0.1), "FeatureAlphaDropout": nn.FeatureAlphaDropout(0.1), "RReLU": nn.RReLU(),
    "InstanceNorm1d that tracks statistics": nn.InstanceNorm1d(9, track_running_stats=True),
}  # fmt: skip


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("given", UNREPEATABLE)
def test_what_does_other_things_each_time_is_refused(given, inside):
    module = UNREPEATABLE[given]
    block = Block(nn.Sequential(nn.Linear(6, 9), nn.ModuleList([module]) if inside else module))
    with pytest.raises(ValueError, match=f"cannot run this block again as it ran before .given: {given}, expected: "):
        build(block, BlockSpec(0, 2, (6,), (9,), (9,), TASK))


def test_an_instance_norm_without_statistics_is_a_function_of_its_input():
    torch.manual_seed(0)
    block = Block(nn.Sequential(nn.Linear(6, 9), nn.Unflatten(1, (3, 3)), nn.InstanceNorm1d(3), nn.Flatten()))
    rule = rules_of([block, read_out((9,))])[0]
    x, y = batch((6,))
    out, context = rule(x, y)
    assert torch.equal(rule.layers.again(x, context[3].tensors(), context[4]), out)


@pytest.mark.parametrize("module", [nn.BatchNorm1d(9), nn.Dropout(0.1), Sign()])
def test_what_varies_inside_another_module_is_refused(module):
    class Wrapped(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = module

        def forward(self, x):
            return self.inner(x)

    block = Block(nn.Sequential(nn.Linear(6, 9), Wrapped()))
    with pytest.raises(ValueError, match=rf"given: {type(module).__name__} inside another module, expected: directly"):
        make_rules(build, [block], (6,), TASK)
