"""LRA of recurrent nets: beside truncated backpropagation, the rule of plain blocks, and its own equations."""

import pytest
import torch
from rule_builders import assert_same, batch, dense, gradients, learn_chain, make_rules, read_out
from torch import nn

from pipeline.data.position_tasks import PositionClasses, Regression
from pipeline.data.task import Classification
from pipeline.learning.elman_block import ElmanBlock
from pipeline.learning.rule import BlockSpec
from pipeline.network.block import Block
from pipeline.network.recurrent import LastStep, Recurrent
from pipeline.rules import lra_fdbk
from pipeline.rules.lra_rnn import RecurrentSettings, build

LENGTH = 7
TASK = Regression(3, (LENGTH,))
BARE = {"displacement_clip": 0.0}


def net(unit="tanh", depth=1, **options):
    torch.manual_seed(0)
    layers = [Recurrent("elman", 6 if k else 3, 6, unit=unit, **options) for k in range(depth)]
    return [*map(Block, layers), Block(nn.Linear(6, 3))]


def rules_of(blocks, task=TASK, in_shape=(LENGTH, 3), **settings):
    return make_rules(build, blocks, in_shape, task, settings=RecurrentSettings(**settings))


def data(size=5, length=LENGTH, seed=1):
    x = torch.randn(size, length + 1, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return x[:, :-1].contiguous(), x[:, 1:].contiguous()


def half_squares(out, y):
    """Of outputs with unit variance, summed over batch and time."""
    return 0.5 * (out - y).square().sum()


def autograd(blocks, x, y):
    out = x
    for block in blocks:
        out = block(out)
    return [torch.autograd.grad(half_squares(out, y), list(block.parameters()), retain_graph=True) for block in blocks]


def aligned(rules):
    """E is the transpose of the weight above."""
    for rule in rules[1:]:
        rule.matrix.copy_(rule.parts.weight.detach())


def test_o_r1_linear_units_with_the_weights_are_backpropagation_truncated_to_one_step():
    """O-R1: lra_rnn with linear units, the weights for feedback and beta = 1 is backpropagation truncated to one step.
    """
    blocks = net("linear", truncate=1)
    rules = rules_of(blocks, beta=1.0, **BARE)
    aligned(rules)
    x, y = data()
    learn_chain(rules, x, y)
    for rule, wanted in zip(rules, autograd(blocks, x, y), strict=True):
        assert_same(gradients(rule), wanted)
    whole = autograd(net("linear"), x.float(), y.float())[0]
    assert (gradients(rules[0])[1].float() - whole[1]).abs().max() > 0.01 * whole[1].abs().max()


@pytest.mark.parametrize("beta", [1e-3, 1e-4, 1e-5])
def test_o_r2_of_a_small_beta_the_derivative_enters_twice(beta):
    """O-R2: as beta goes to 0, gradients over beta are those of that truncation with the derivative squared."""
    blocks = net()
    rules = rules_of(blocks, beta=beta, **BARE)
    aligned(rules)
    x, y = data()
    learn_chain(rules, x, y)
    out = blocks[0](x).detach()
    slope = 1 - out.square()
    e = (blocks[1](out).detach() - y) @ blocks[1].body.weight.detach() * slope.square()
    before = torch.cat([torch.zeros_like(out[:, :1]), out[:, :-1]], 1)
    weights, grads = blocks[0].body.weights(), dict(blocks[0].body.layer.named_parameters())
    assert weights.input is grads["weight_ih_l0"]
    for parameter, rows in ((weights.input, x), (weights.recurrent, before)):
        wanted = torch.einsum("bti,btj->ij", e, rows)
        torch.testing.assert_close(parameter.grad / beta, wanted, rtol=0, atol=0.6 * beta * wanted.abs().max().item())


@pytest.mark.parametrize("through_time", [False, "fdbk", "diff"])
def test_o_r3_chunks_with_a_carried_state_are_the_whole_sequence(through_time):
    """O-R3: chunks with a carried state have the whole sequence's values, bit for bit, and its gradients as their sum.

    Bit for bit forward; what the steps add is the same where no target goes from one to another.
    """
    x, y = data(length=8)
    task = Regression(3, (8,))
    whole = rules_of(net(), task, (8, 3), through_time=through_time)
    parts = rules_of(net(), task, (8, 3), through_time=through_time)
    for rule, other in zip(whole, parts):
        other.load_state_dict(rule.state_dict())
    learn_chain(whole, x, y)
    sent = whole[0](x, y)[0]
    for number in range(4):
        piece = slice(2 * number, 2 * number + 2)
        chunk = {"rows": slice(5), "num_rows": 5, "is_start": number == 0, "is_end": False}
        parts[0].block.body.carried.announce(trains=True, **chunk)
        learn_chain(parts, x[:, piece], y[:, piece])
        parts[0].block.body.carried.announce(trains=False, **chunk)
        assert torch.equal(parts[0](x[:, piece], y[:, piece])[0], sent[:, piece])
    assert_same(gradients(parts[1]), gradients(whole[1]), 1e-12)
    if not through_time:
        assert_same(gradients(parts[0]), gradients(whole[0]), 1e-12)
    else:
        assert not torch.allclose(gradients(parts[0])[1], gradients(whole[0])[1])


@pytest.mark.parametrize("loss", ["cauchy", "l2", "l1"])
def test_o_r4_one_step_without_recurrent_weights_is_the_rule_of_plain_blocks(loss):
    """O-R4: with one step and recurrent weights of 0, lra_rnn is lra_fdbk."""
    x, y = batch((6,), num_classes=4)
    plain = make_rules(
        lra_fdbk.build, [dense(6, 8), dense(8, 7), read_out((7,), 4)], (6,), Classification(4),
        settings=lra_fdbk.Settings(loss=loss),
    )  # fmt: skip
    blocks = [Block(Recurrent("elman", 6, 8)), Block(Recurrent("elman", 8, 7)), Block(nn.Linear(7, 4))]
    rules = rules_of(blocks, PositionClasses(4, (1,)), (1, 6), loss=loss)
    for rule, other in zip(rules, plain):
        weight, bias = other.affine
        with torch.no_grad():
            rule.parts.weight.copy_(weight)
            rule.parts.biases[0].copy_(bias)
            for rest in rule.parts.biases[1:]:
                rest.zero_()
            if rule.parts.is_recurrent:
                rule.parts.recurrent.zero_()
        if not rule.spec.is_first:
            rule.matrix.copy_(other.matrix)
    labels = y.to(torch.uint8)
    losses = learn_chain(rules, x.unsqueeze(1), labels.unsqueeze(1))
    for given, wanted in zip(losses, learn_chain(plain, x, y), strict=True):
        torch.testing.assert_close(given, wanted, rtol=1e-10, atol=1e-14)
    for rule, other in zip(rules, plain):
        for bias in rule.parts.biases:
            assert_same([rule.parts.weight.grad, bias.grad], gradients(other))
        assert not rule.parts.is_recurrent or not rule.parts.recurrent.grad.any()


@pytest.mark.parametrize("through_time", [False, "fdbk", "diff"])
def test_o_r5_a_row_learns_by_itself(through_time):
    """O-R5: gradients of a batch are the sum of those of its rows, each learned from alone."""
    blocks = net(depth=2)
    rules = rules_of(blocks, through_time=through_time)
    x, y = data()
    learn_chain(rules, x, y)
    whole = [list(gradients(rule)) for rule in rules]
    for rule in rules:
        rule.zero_grad()
    for row in range(len(x)):
        learn_chain(rules, x[row : row + 1], y[row : row + 1])
    for rule, wanted in zip(rules, whole, strict=True):
        assert_same(gradients(rule), wanted)


def test_targets_through_time_by_a_second_matrix():
    """Written out step by step, from the last one."""
    rules = rules_of(net(), through_time="fdbk", loss="cauchy", displacement_clip=0.5, beta=0.3)
    x, y = data()
    learn_chain(rules, x, y)
    steps = rules[0](x, y)[1][0]
    out = rules[1].block(steps.sent).detach()
    displacement = (out - y) @ rules[1].matrix
    e, total = torch.zeros(5, 6, dtype=torch.float64), 0.0
    for t in reversed(range(LENGTH)):
        moves = displacement[:, t] + e @ rules[0].recurrent_matrix
        moves = moves * (0.5 / moves.norm(dim=1, keepdim=True)).clamp(max=1)
        r = steps.z[:, t] - (steps.h[:, t] - 0.3 * moves).tanh()
        e = 2 * r / (1 + r**2) * (1 - steps.z[:, t] ** 2)
        total = total + e.t() @ steps.before[:, t]
    torch.testing.assert_close(rules[0].parts.recurrent.grad, total, rtol=1e-10, atol=1e-14)


def test_targets_through_time_by_gradient_steps():
    """Each is found by autograd on the loss of the step behind it."""
    rules = rules_of(net(), through_time="diff", steps=3, beta=0.2, **BARE)
    x, y = data()
    learn_chain(rules, x, y)
    parts, steps = rules[0].parts, rules[0](x, y)[1][0]
    displacement = (rules[1].block(steps.sent).detach() - y) @ rules[1].matrix
    inner = rules[0].block.body.layer
    drive = x @ inner.weight_ih_l0.t() + inner.bias_ih_l0 + inner.bias_hh_l0
    target, total = None, 0.0
    for t in reversed(range(LENGTH)):
        u = (steps.h[:, t] - 0.2 * displacement[:, t]).detach()
        for _ in range(3 if target is not None else 0):
            u.requires_grad_()
            z = (drive[:, t + 1] + u.tanh() @ parts.recurrent.t()).tanh()
            (g,) = torch.autograd.grad(0.5 * (z - target).square().sum(), u)
            u = (u - 0.2 * g).detach()
        target = u.tanh()
        e = (steps.z[:, t] - target) * (1 - steps.z[:, t] ** 2)
        total = total + e.t() @ steps.before[:, t]
    torch.testing.assert_close(parts.recurrent.grad, total, rtol=1e-10, atol=1e-14)


def test_an_embedding_in_front_learns_from_the_error_at_its_steps():
    torch.manual_seed(0)
    blocks = [Block(nn.Sequential(nn.Embedding(4, 3), Recurrent("elman", 3, 6))), Block(nn.Linear(6, 5))]
    tokens = torch.randint(4, (5, LENGTH))
    task = PositionClasses(5, (LENGTH,))
    settings = RecurrentSettings()
    rules = make_rules_of_tokens(blocks, task, settings)
    y = torch.randint(5, (5, LENGTH), dtype=torch.uint8)
    learn_chain(rules, tokens, y)
    inputs = blocks[0].body[0](tokens)
    x = inputs.detach()
    plain = rules_of([Block(blocks[0].body[1]), blocks[1]], task)
    plain[1].matrix.copy_(rules[1].matrix)
    for rule in plain:
        rule.zero_grad()
    weight = rules[0].parts.weight
    error = errors_of(plain, x, y)
    wanted = torch.zeros(4, 3, dtype=torch.float64).index_add_(0, tokens.flatten(), (error @ weight).flatten(0, 1))
    torch.testing.assert_close(blocks[0].body[0].weight.grad, wanted, rtol=1e-10, atol=1e-14)


def make_rules_of_tokens(blocks, task, settings):
    shapes = [(LENGTH,), (LENGTH, 6), (LENGTH, 5)]
    specs = [BlockSpec(k, 2, shapes[k], shapes[k + 1], shapes[k + 1], task) for k in range(2)]
    return [build(block, spec, settings=settings).double() for block, spec in zip(blocks, specs, strict=True)]


def errors_of(rules, x, y):
    """Errors at the pre-activations of the first block."""
    out, (steps, _) = rules[0](x, y)
    _, context = rules[1](out, y)
    (displacement,) = rules[1].learn(context, ()).upstream
    return rules[0]._errors(steps, displacement)[1].detach()


def test_a_read_out_of_the_last_step_moves_nothing_else():
    torch.manual_seed(0)
    blocks = [Block(Recurrent("elman", 3, 6)), Block(nn.Sequential(LastStep(), nn.Linear(6, 5)))]
    rules = rules_of(blocks, Classification(5))
    x, _ = data()
    out, _ = rules[0](x, None)
    _, context = rules[1](out, torch.arange(5))
    (displacement,) = rules[1].learn(context, ()).upstream
    assert displacement.shape == (5, LENGTH, 6)
    assert not displacement[:, :-1].any() and displacement[:, -1].ne(0).all()


def test_a_mean_is_the_sum_divided_by_samples_and_steps():
    found = []
    for reduction in ("sum", "mean"):
        rules = rules_of(net(depth=2), reduction=reduction)
        x, y = data()
        torch.manual_seed(3)
        for rule in rules[1:]:
            rule.matrix.normal_()
        learn_chain(rules, x, y, weight=0.5)
        found.append([g for rule in rules for g in gradients(rule)])
    for whole, mean in zip(*found, strict=True):
        torch.testing.assert_close(mean, whole * (0.5 / (5 * LENGTH)), rtol=1e-10, atol=1e-14)


def test_fixed_recurrent_weights_are_left_alone():
    blocks = net()
    blocks[0].body.weights().recurrent.requires_grad_(False)
    rules = rules_of(blocks)
    learn_chain(rules, *data())
    assert rules[0].parts.recurrent.grad is None and rules[0].parts.weight.grad is not None


@pytest.mark.parametrize(
    ("block", "given"),
    [(Block(Recurrent("lstm", 3, 6)), "Recurrent"), (dense(3, 6, norm=True), "Linear, BatchNorm1d, Tanh"),
     (Block(nn.Sequential(LastStep(), Recurrent("elman", 3, 6))), "LastStep, Recurrent"),
     (Block(nn.Sequential(nn.Embedding(3, 3), nn.Linear(3, 6))), "Embedding, Linear")],
)  # fmt: skip
def test_other_blocks_are_refused(block, given):
    with pytest.raises(ValueError, match="lra_rnn trains blocks of one Elman layer, or of one linear ") as e:
        ElmanBlock.of(block, "lra_rnn")
    assert f"(given: {given}; expected: " in str(e.value) and "Set model.name to rnn" in str(e.value)
