"""Target propagation: oracles, and the arithmetic beside autograd."""

import copy

import pytest
import torch
from torch import nn

from pipeline import registry
from pipeline.data.task import Classification
from pipeline.learning.rule import BlockSpec
from pipeline.network.block import Block
from pipeline.network.hard_units import Bernoulli, Sign

TASK = Classification(4)
WIDTHS = (6, 9, 8, 7, 4)
BATCH = 5
tp, dtp = (registry.load("pipeline.rules", name, "rule") for name in ("tp", "dtp"))
BUILDS = {"tp": tp, "dtp": dtp}


def _network(build, unit=nn.Tanh, hard=None, widths=WIDTHS, top=None, **options):
    """Rules of a dense network in double precision."""
    torch.manual_seed(0)
    rules = []
    for k, (num_in, num_out) in enumerate(zip(widths, widths[1:], strict=False)):
        is_last = k == len(widths) - 2
        parts = [nn.Linear(num_in, num_out)]
        if not is_last:
            parts += [unit()] + ([hard()] if hard else [])
        spec = BlockSpec(k, len(widths) - 1, (num_in,), (num_out,), (num_out,), TASK)
        rules.append(build(Block(nn.Sequential(*parts)), spec, **options).double())
    return rules


def _batch(size=BATCH, width=WIDTHS[0]):
    generator = torch.Generator().manual_seed(3)
    return torch.randn(size, width, dtype=torch.float64, generator=generator), torch.arange(size) % 4


def _learn(rules, x, y, weight=1.0):
    """One micro-batch, up and down. Returns the message that each block but the last was given."""
    contexts = []
    for rule in rules:
        x, context = rule(x, y)
        contexts.append(context)
    message, given = (), []
    for k, (rule, context) in reversed(list(enumerate(zip(rules, contexts, strict=True)))):
        given.insert(0, message)
        torch.manual_seed(k)
        message = rule.learn(context, message, weight=weight).upstream
    assert message == ()
    return [m[0] for m in given[:-1]]


def _grads(rule):
    return {name: p.grad.clone() for name, p in rule.named_parameters()}


@pytest.mark.parametrize("unit", [nn.Tanh, nn.Sigmoid, nn.Softsign])
def test_o_t1_an_output_on_target_leaves_everything_below_as_it_is(unit):
    """O-T1: where an output is its target, dtp's target below is what was there and the block has no gradient, for any
    inverse."""
    rule = _network(dtp, unit)[1]
    for parameter in rule.inverse.parameters():
        nn.init.normal_(parameter)
    x, y = _batch(width=6 + 3)
    out, context = rule(x, y)
    learned = rule.learn(context, (out.clone(),))
    assert torch.equal(learned.upstream[0], x)
    assert learned.loss == 0
    block = [p.grad for p in rule.block.parameters()]
    assert all(not g.any() for g in block)
    assert all(p.grad.any() for p in rule.inverse.parameters())


def test_o_t2_a_linear_net_with_transposed_inverses_follows_backpropagation():
    """O-T2: in a linear net with transposed weights for inverses, gradients are 2 step / B times backpropagation's."""
    step = 0.3
    rules = _network(dtp, nn.Identity, step=step, inverse_activation="linear")
    with torch.no_grad():
        for rule in rules[1:-1]:
            rule.inverse.weight.copy_(rule.dense.weight.t())
    x, y = _batch()
    _learn(rules, x, y)
    net = copy.deepcopy(nn.Sequential(*(rule.block for rule in rules)))
    net.zero_grad()
    TASK.loss(net(x), y).backward()
    for rule, block in zip(rules[:-1], net, strict=False):
        for ours, theirs in zip(rule.block.parameters(), block.parameters(), strict=True):
            torch.testing.assert_close(ours.grad, theirs.grad * 2 * step / BATCH, rtol=1e-10, atol=1e-14)
    for ours, theirs in zip(rules[-1].block.parameters(), net[-1].parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-10, atol=1e-14)


def test_o_t3_exact_inverses_make_tp_and_dtp_one():
    """O-T3: with orthogonal layers and their exact inverses tp and dtp send the same targets, and reconstructions are
    exact."""
    messages = {}
    for name, build in BUILDS.items():
        rules = _network(build, nn.Identity, widths=(6, 6, 6, 6, 4), inverse_activation="linear", noise=0.5)
        torch.manual_seed(7)
        with torch.no_grad():
            for rule in rules[:-1]:
                nn.init.orthogonal_(rule.dense.weight)
                if rule.inverse is not None:
                    rule.inverse.weight.copy_(rule.dense.weight.t())
                    rule.inverse.bias.copy_(-rule.dense.bias @ rule.dense.weight)
        messages[name] = _learn(rules, *_batch())
        for rule in rules[1:-1]:
            assert all(p.grad.abs().max() < 1e-13 for p in rule.inverse.parameters()), "reconstruction is exact"
    for ours, theirs in zip(messages["tp"], messages["dtp"], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("build", BUILDS.values(), ids=BUILDS)
def test_o_t4_the_inverses_step_leaves_the_block_as_it_is_and_the_other_way_round(build):
    """O-T4: a step of the inverses leaves every bit of the blocks, and a step of the blocks every bit of the inverses.
    """
    rules = _network(build, alternate="epoch")
    x, y = _batch()
    for epoch, inverse in enumerate([True, False, True]):
        before = copy.deepcopy([rule.state_dict() for rule in rules])
        for rule in rules:
            rule.begin_epoch(epoch)
        _learn(rules, x, y)
        for rule, state in zip(rules, before, strict=True):
            groups = [group for group, _ in rule.parameter_groups()]
            torch.optim.SGD([{"params": group} for group in groups if group], lr=0.1).step()
            rule.zero_grad()
            for name, value in rule.state_dict().items():
                moved = not torch.equal(value, state[name])
                assert moved == (name.startswith("inverse") == inverse), (epoch, name)


@pytest.mark.parametrize("build", BUILDS.values(), ids=BUILDS)
@pytest.mark.parametrize("unit", [nn.Tanh, nn.Sigmoid, nn.Softsign])
@pytest.mark.parametrize("inverse", ["tanh", "same"])
def test_gradients_are_those_of_the_two_losses(build, unit, inverse):
    rules = _network(build, unit, noise=0.3, scale_reconstruction=True, inverse_activation=inverse)
    rule, (x, y) = rules[1], _batch(width=9)
    out, context = rule(x, y)
    target = out + 0.1
    torch.manual_seed(1)
    learned = rule.learn(context, (target,), weight=0.5)
    found = _grads(rule)
    rule.zero_grad()
    torch.manual_seed(1)
    noisy = x + 0.3 * torch.randn_like(x)
    back = nn.Tanh() if inverse == "tanh" else unit()

    def invert(v):
        return back(v @ rule.inverse.weight.t() + rule.inverse.bias)

    loss = (rule.block(x) - target).square().sum(1).mean()
    guess = invert(rule.block(noisy).detach())
    reconstruction = (guess - noisy).square().sum(1).mean() / 0.09
    (0.5 * (loss + reconstruction)).backward()
    for name, grad in _grads(rule).items():
        torch.testing.assert_close(found[name], grad, rtol=1e-10, atol=1e-14)
    torch.testing.assert_close(learned.loss, loss.detach())
    wanted = invert(target) if build is tp else x + invert(target) - invert(out)
    torch.testing.assert_close(learned.upstream[0], wanted.detach(), rtol=1e-12, atol=1e-14)


def test_the_first_target_is_a_step_against_the_batchs_loss():
    rule, (x, y) = _network(dtp, step=2.0)[-1], _batch(width=7)
    leaf = x.clone().requires_grad_()
    TASK.loss(rule.block(leaf), y).backward()
    _, context = rule(x, y)
    for weight in (1.0, 0.25):
        learned = rule.learn(context, (), weight=weight)
        torch.testing.assert_close(learned.upstream[0], x - 2.0 * weight * leaf.grad, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("build", BUILDS.values(), ids=BUILDS)
def test_parts_of_a_batch_add_up_to_the_batch(build):
    """But for the noise, of which every part has its own."""
    rules, (x, y) = _network(build, noise=0.0), _batch(8)
    _learn(rules, x, y)
    whole = [_grads(rule) for rule in rules]
    for rule in rules:
        rule.zero_grad()
    for part in (slice(0, 2), slice(2, 8)):
        _learn(rules, x[part], y[part], weight=len(y[part]) / 8)
    for k, (rule, expected) in enumerate(zip(rules, whole, strict=True)):
        for name, grad in _grads(rule).items():
            torch.testing.assert_close(grad, expected[name], rtol=1e-9, atol=1e-14, msg=f"block {k}, {name}")


@pytest.mark.parametrize("hard", [Sign, Bernoulli])
def test_a_hard_part_is_gone_around(hard):
    """What comes back is relative to what was sent; the inverse reads samples' probabilities and thresholds' signs."""
    unit = nn.Sigmoid if hard is Bernoulli else nn.Tanh
    rule, (x, y) = _network(dtp, unit, hard)[1], _batch(width=9)
    out, context = rule(x, y)
    z = unit()(x @ rule.dense.weight.t() + rule.dense.bias).detach()
    assert set(out.unique().tolist()) <= {-1.0, 0.0, 1.0} and not torch.equal(out, z)
    learned = rule.learn(context, (out + 0.25,))
    assert learned.loss == pytest.approx(0.0625 * 8)
    read = (lambda v: v) if hard is Bernoulli else Sign()
    guess = [torch.tanh(read(v) @ rule.inverse.weight.t() + rule.inverse.bias) for v in (z + 0.25, z)]
    torch.testing.assert_close(learned.upstream[0], (x + guess[0] - guess[1]).detach(), rtol=1e-12, atol=1e-14)
    assert all(p.grad.any() for p in rule.parameters())


def test_without_the_difference_an_inverses_answer_is_a_target_for_what_the_hard_part_reads():
    middle, top = _network(tp, nn.Tanh, Sign)[1:3]
    for rule, relative in ((middle, False), (top, True)):
        x, y = _batch(width=rule.spec.in_shape[0])
        out, context = rule(x, y)
        z = context[2]
        loss = rule.learn(context, (out + 0.5,)).loss
        wanted = 0.25 * rule.spec.out_shape[0] if relative else (z - out - 0.5).square().sum(1).mean()
        assert loss == pytest.approx(float(wanted))


def test_the_noise_falls_and_the_inverse_has_a_rate_of_its_own():
    rule = _network(dtp, noise=0.5, noise_halving=50, inverse_rate=3.0)[1]
    assert rule.noise == 0.5
    rule.begin_epoch(50)
    assert rule.noise == 0.25
    (block, one), (inverse, three) = rule.parameter_groups()
    assert (one, three) == (1.0, 3.0)
    assert set(block) == set(rule.block.parameters()) and set(inverse) == set(rule.inverse.parameters())
    slow = _network(dtp, noise=0.5, noise_halving=50, alternate="epoch")[1]
    slow.begin_epoch(100)
    assert slow.noise == 0.25, "two epochs are one of the published ones"


def test_inverses_start_orthogonal_without_a_bias():
    rule = _network(dtp)[1]
    weight = rule.inverse.weight.detach()
    torch.testing.assert_close(weight.t() @ weight, torch.eye(8, dtype=torch.float64), rtol=0, atol=1e-6)
    assert not rule.inverse.bias.any()
    assert _network(dtp)[0].inverse is None and _network(dtp)[-1].inverse is None
    glorot = _network(dtp, inverse_init="xavier")[1].inverse.weight
    assert 0.5 < glorot.std() / (2 / (8 + 9)) ** 0.5 < 1.5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"step": 0.0}, "out of range .given: rule.step = 0.0.* rule.step above 0.*Change the one"),
        ({"noise": float("nan")}, "an option of target propagation is out of range .* rule.noise = nan"),
        ({"inverse_rate": -1.0}, "an option of target propagation is out of range .* rule.inverse_rate = -1.0"),
        ({"noise": 0.0, "scale_reconstruction": True}, "reconstruction loss by a variance of 0 .given: rule.sc"),
    ],
)
def test_options_without_sense_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        _network(dtp, **options)


def test_a_block_that_begins_with_a_unit_is_refused():
    block = Block(nn.Sequential(nn.Tanh(), nn.Linear(3, 4)))
    with pytest.raises(ValueError, match="dtp takes a linear layer and a unit behind it .given: Tanh in front"):
        dtp(block, BlockSpec(1, 3, (3,), (4,), (4,), TASK))
