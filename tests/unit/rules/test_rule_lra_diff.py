"""Local representation alignment by derivatives: where it is backpropagation and where not, and its inner steps."""

import pytest
import torch
from rule_builders import assert_same, batch, dense, gradients, learn_chain, make_rules, read_out, true_gradients
from torch import nn

from pipeline import registry
from pipeline.data.task import Binary, Classification
from pipeline.engine.in_flight import SavedTensors
from pipeline.learning.rule import Topology
from pipeline.models import mlp
from pipeline.network.block import Block
from pipeline.network.hard_units import Sign

build = registry.load("pipeline.rules", "lra_diff", "rule")
BARE = {"loss": "l2", "weight_clip": 0.0, "displacement_clip": 0.0, "reduction": "mean"}
SIZES = [6, 7, 8, 7]


def net(activation=nn.Tanh, num_outputs=5):
    """Blocks that meet in front of their units."""
    sizes = [*SIZES, num_outputs]
    blocks = []
    for k in range(len(sizes) - 1):
        below = [activation()] if k else []
        ahead = activation() if k < len(sizes) - 2 else None
        blocks.append(Block(nn.Sequential(*below, nn.Linear(sizes[k], sizes[k + 1])), ahead=ahead))
    return blocks


def rules_of(blocks=None, **options):
    return make_rules(build, blocks or net(), (6,), **options)


def hidden(**options):
    """The rule of block 1 with a context, a target and what its forward saw."""
    rule = rules_of(**options)[1]
    x, y = batch((7,))
    _, context = rule(x, y)
    return rule, context, torch.rand(len(x), 8, dtype=torch.float64) * 1.6 - 0.8, x


def literal(rule, x, target, steps, beta, barred):
    """Algorithm 1 with ``z - t`` for a loss: D from the moved quantities, or in print from the unmoved ones."""
    weight, bias = (p.detach() for p in rule.affine)
    u, moved = x, x
    for _ in range(steps):
        at = moved if barred else u
        z = (at.tanh() @ weight.t() + bias).tanh()
        e = (z - target) * (1 - z**2)
        moved = moved - beta * (e @ weight) * (1 - at.tanh() ** 2)
    return moved.tanh()


@pytest.mark.parametrize("task", [Classification(5), Binary()], ids=["classes", "binary"])
def test_o_l2_linear_units_are_backpropagation(task):
    """O-L2: lra_diff with linear units, one step, beta = 1, squared losses and no bounds is backpropagation."""
    blocks = net(nn.Identity, task.num_outputs)
    rules = rules_of(blocks, task=task, beta=1.0, **BARE)
    x, y = batch((6,))
    y = y % max(2, task.num_outputs)
    learn_chain(rules, x, y)
    for rule, wanted in zip(rules, true_gradients(blocks, x, y, task.loss), strict=True):
        for given, expected in zip(gradients(rule), wanted, strict=True):
            torch.testing.assert_close(given, expected, rtol=1e-10, atol=1e-12)


class Cubed(torch.autograd.Function):
    """tanh forward, and its derivative to the third power back."""

    @staticmethod
    def forward(ctx, a):
        ctx.save_for_backward(a.tanh())
        return a.tanh()

    @staticmethod
    def backward(ctx, d):
        (z,) = ctx.saved_tensors
        return d * (1 - z**2) ** 3


class CubedTanh(nn.Module):
    def forward(self, a):
        return Cubed.apply(a)


def scaled(rules, beta):
    """``G(l) / beta^(L - l)``."""
    count = len(rules)
    return [[g / beta ** (count - 1 - k) for g in gradients(rule)] for k, rule in enumerate(rules)]


@pytest.mark.parametrize(("beta", "tolerance"), [(1e-2, 6e-3), (1e-3, 3e-4)])
def test_o_l3_small_steps_are_backpropagation_with_the_derivatives_of_hidden_units_cubed(beta, tolerance):
    """O-L3: as beta goes to 0, lra_diff is backpropagation with the hidden units' derivatives cubed, and not without.

    At smaller betas rounding takes over: three blocks down the gradient is of the order of beta cubed.
    """
    blocks, cubed = net(), net(CubedTanh)
    for block, other in zip(blocks, cubed):
        other.load_state_dict(block.state_dict())
    rules = rules_of(blocks, beta=beta, **BARE)
    x, y = batch((6,))
    learn_chain(rules, x, y)
    loss = Classification(5).loss
    limit = true_gradients([c.double() for c in cubed], x, y, loss)
    for given, wanted in zip(scaled(rules, beta), limit, strict=True):
        assert_same(given, wanted, rtol=tolerance)
    exact = true_gradients(blocks, x, y, loss)
    for given, wanted in zip(scaled(rules, beta)[:-1], exact[:-1], strict=True):
        assert (given[0] - wanted[0]).abs().max() > 0.1 * wanted[0].abs().max(), "backpropagation itself"


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_targets_by_the_formulas(steps):
    rule, context, target, x = hidden(steps=steps, beta=0.3, **BARE)
    sent = rule.learn(context, (target,)).upstream[0]
    torch.testing.assert_close(sent, literal(rule, x, target, steps, 0.3, True), rtol=1e-10, atol=1e-13)
    weight, bias = (p.detach() for p in rule.affine)
    z = (x.tanh() @ weight.t() + bias).tanh()
    e = (z - target) * (1 - z**2) / len(x)
    assert_same(gradients(rule), [e.t() @ x.tanh(), e.sum(0)])


def test_o_l10_two_steps_from_unmoved_quantities_are_one_of_twice_the_length():
    """O-L10: two inner steps by the printed formulas differ from two steps from moved quantities, and one does not.

    What is in print; K = 1 is the same either way.
    """
    sent = {}
    for steps in (1, 2):
        rule, context, target, x = hidden(steps=steps, beta=0.3, **BARE)
        sent[steps] = rule.learn(context, (target,)).upstream[0]
        printed = literal(rule, x, target, steps, 0.3, False)
        same = torch.allclose(sent[steps], printed, rtol=1e-10, atol=1e-13)
        assert same == (steps == 1)
    twice = literal(rule, x, target, 1, 0.6, False)
    torch.testing.assert_close(printed, twice, rtol=1e-10, atol=1e-13)
    assert (sent[2] - twice).abs().max() > 1e-3


def test_a_sample_takes_no_further_step_once_one_has_not_lowered_its_loss():
    """Steps so long that they overshoot for some samples."""
    one, one_context, target, _ = hidden(steps=1, beta=30.0, **BARE)
    rule, context, _, x = hidden(steps=6, beta=30.0, **BARE)
    rule.load_state_dict(one.state_dict())
    _, context = rule(x, context[2])
    first = one.learn(one(x, context[2])[1], (target,)).upstream[0]
    many = rule.learn(context, (target,)).upstream[0]
    before = one.compare(context, target)[0]
    after = one._compare(one.pre_activation(first, *one.affine), target)[0]
    stopped = after >= before
    assert 0 < stopped.sum() < len(x)
    assert torch.equal(many[stopped], first[stopped])
    assert (many[~stopped] != first[~stopped]).any(1).all()


@pytest.mark.parametrize("steps", [1, 3])
def test_more_steps_bring_the_output_closer_to_the_target(steps):
    rule, context, target, x = hidden(steps=steps, beta=0.2, displacement_clip=1.0)
    sent = rule.learn(context, (target,)).upstream[0]
    before = rule.compare(context, target)[0].mean()
    after = rule._compare(rule.pre_activation(sent, *rule.affine), target)[0].mean()
    assert after < before
    if steps == 3:
        fewer, fewer_context, _, _ = hidden(steps=1, beta=0.2, displacement_clip=1.0)
        fewer.load_state_dict(rule.state_dict())
        once = fewer.learn(fewer(x, context[2])[1], (target,)).upstream[0]
        assert after < fewer._compare(fewer.pre_activation(once, *fewer.affine), target)[0].mean()


def test_the_target_is_made_with_the_weights_of_the_forward_pass():
    """As the runtime has them kept where a step may come between."""
    rule, context, target, x = hidden(steps=2)
    expected = rule.learn(context, (target,)).upstream[0]
    saved = SavedTensors(rule.parameters(), rule.parameters())
    with saved.watch():
        _, context = rule(x, context[2])
    with torch.no_grad():
        for parameter in rule.parameters():
            parameter.mul_(2.0)
    assert torch.equal(rule.learn(context, (target,)).upstream[0], expected)


def test_a_hard_part_is_run_forward_and_gone_around_back():
    blocks = [b.make() for b in mlp.build((6,), 5, depth=2, width=7, norm="none", activation="sign", boundary="half")]
    rules = rules_of(blocks)
    x, y = batch((6,))
    sent = [x]
    for rule in rules:
        sent.append(rule(sent[-1], y)[0])
        assert torch.equal(sent[-1], rule.block(sent[-2]).detach()) and rule.draws == (rule is not rules[0])
    learn_chain(rules, x, y)
    top = rules[-1]
    e = Classification(5).error(sent[-1], y) * len(y)
    assert_same(gradients(top), [e.t() @ Sign()(sent[-2].tanh()), e.sum(0)])
    d = (e @ top.affine[0].detach()) * (1 - sent[-2].tanh() ** 2)
    d = d * (5 / d.norm(dim=1, keepdim=True)).clamp(max=1)
    target = (sent[-2] - 0.1 * d).tanh()
    r = sent[-2].tanh() - target
    e = 2 * r / (1 + r**2) * (1 - sent[-2].tanh() ** 2)
    assert_same(gradients(rules[-2]), [e.t() @ Sign()(sent[-3].tanh()), e.sum(0)])


def test_halted_samples_are_shown_where_they_are():
    rule, context, target, x = hidden(halt=0.5)
    limits = torch.where(torch.arange(len(x)) % 2 == 0, 0.0, float("inf")).double()
    learned = rule.learn(context, (target, limits))
    halted = limits.isinf()
    assert learned.credited == len(x) // 2 and torch.equal(learned.upstream[1], limits)
    assert torch.equal(learned.upstream[0][halted], x[halted].tanh())
    assert not torch.equal(learned.upstream[0][~halted], x[~halted].tanh())


def test_topology_and_what_the_first_block_sends():
    rule = rules_of()[0]
    x, y = batch((6,))
    out, context = rule(x, y)
    assert rule.topology is Topology.NEIGHBOUR and rule.learn(context, (out.tanh(),)).upstream == ()


def test_blocks_of_another_form():
    with pytest.raises(ValueError, match=r"rule.steps = 0, expected: 1 or more"):
        rules_of(steps=0)
    with pytest.raises(ValueError, match=r"given: one that ends with a unit, expected: model.boundary = 'half'"):
        rules_of([dense(6, 7), read_out((7,))])
    with pytest.raises(ValueError, match=r"given: a hidden block that knows no unit ahead, expected: model.boundary"):
        rules_of([dense(6, 7, None), read_out((7,))])
