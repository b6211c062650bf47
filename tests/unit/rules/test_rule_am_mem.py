"""Memories of pairs of codes beside least squares."""

import pytest
import torch
from rule_builders import assert_same, batch, dense, gradients, make_rules, read_out
from torch import nn

from pipeline.data.task import Classification
from pipeline.learning.codes import CodeSearch
from pipeline.network.block import Block
from pipeline.rules.am_mem import build, swept

TASK = Classification(5)


def half(num_in, num_out, bias=False):
    return Block(nn.Sequential(nn.ReLU(), nn.Linear(num_in, num_out, bias=bias)))


def rules_of(blocks, prior=0.0, **options):
    search = CodeSearch(reduction="features", code_rate=0.05)
    return make_rules(build, blocks, (6,), TASK, search=search, prior=prior, **options)


def seen(size=200, num_in=6, num_out=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(size, num_in, generator=generator, dtype=torch.float64)
    return rows, torch.randn(size, num_out, generator=generator, dtype=torch.float64)


def memories(rows, target):
    return rows.t() @ rows, target.t() @ rows


def test_o_a3_a_solution_is_a_fixed_point_and_satisfies_the_normal_equations():
    """O-A3: sweeps of coordinate descent end where W A = B, and leave that solution as it is."""
    inputs, pairs = memories(*seen())
    weight = swept(torch.zeros(4, 6, dtype=torch.float64), inputs, pairs, 500)
    assert_same([weight @ inputs], [pairs])
    assert_same([swept(weight, inputs, pairs)], [weight])


def test_a_sweep_is_coordinate_descent_a_column_at_a_time():
    inputs, pairs = memories(*seen())
    torch.manual_seed(1)
    weight = torch.randn(4, 6, dtype=torch.float64)
    expected = weight.clone()
    for j in range(6):
        expected[:, j] += (pairs[:, j] - expected @ inputs[:, j]) / inputs[j, j]
    assert_same([swept(weight, inputs, pairs)], [expected])


def test_a_sweep_is_exact_under_autocast():
    (rows, target), weight = seen(), torch.randn(4, 6, generator=torch.Generator().manual_seed(1))
    inputs, pairs = memories(rows.float(), target.float())
    wanted = swept(weight, inputs, pairs)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(swept(weight, inputs, pairs), wanted)


def test_the_loss_of_a_hidden_block_is_exact_under_autocast():
    torch.manual_seed(0)
    rule = rules_of([Block(nn.Linear(6, 4, bias=False)), read_out((4,))], prior=10.0)[0].float()
    (x, target), y = [t.float() for t in seen(16)], torch.zeros(16, dtype=torch.int64)
    _, context = rule(x, y)
    losses = [rule.learn(context, (target,)).loss]
    with torch.autocast("cpu", torch.bfloat16):
        losses.append(rule.learn(context, (target,)).loss)
    assert torch.equal(*losses)


def test_columns_of_inputs_that_were_always_0_stay():
    rows, target = seen()
    rows[:, 2] = 0.0
    weight = torch.ones(4, 6, dtype=torch.float64)
    found = swept(weight, *memories(rows, target), 3)
    assert torch.equal(found[:, 2], weight[:, 2]) and found.isfinite().all() and not torch.equal(found, weight)


@pytest.mark.parametrize("bias", [False, True])
def test_o_a6_a_stream_ends_at_least_squares_over_all_pairs_seen(bias):
    """O-A6: am_mem on a stream, its sweeps repeated to the end, has the weights of least squares over all pairs seen.
    """
    torch.manual_seed(0)
    block = half(6, 4, bias)
    rule = rules_of([dense(6, 6, activation=None), block, read_out((4,))], sweeps=1000)[1]
    rows, targets = seen()
    optimizer = torch.optim.SGD(rule.parameters(), lr=1.0)
    codes = []
    for k in range(0, 200, 50):
        x = rows[k : k + 50]
        _, context = rule(x, torch.zeros(50, dtype=torch.int64))
        codes.append(x + rule.learn(context, (targets[k : k + 50] - context[1],)).upstream[0])
        optimizer.step()
        optimizer.zero_grad()
    inputs = torch.relu(torch.cat(codes))
    if bias:
        inputs = torch.cat([inputs, torch.ones(200, 1, dtype=torch.float64)], 1)
    wanted = torch.linalg.lstsq(inputs, targets).solution.t()
    linear = block.body[1]
    found = torch.cat([linear.weight, linear.bias.unsqueeze(1)], 1) if bias else linear.weight
    assert_same([found.detach()], [wanted])


def test_o_a7_the_trace_differs_from_the_squares_by_those_of_the_codes():
    """O-A7: the objective as a trace is the sum of squared distances less the sum of squared codes.

    With the memories that a first block has after three batches.
    """
    torch.manual_seed(0)
    rule = rules_of([Block(nn.Linear(6, 4, bias=False)), read_out((4,))])[0]
    rows, target = seen()
    for part in (slice(0, 50), slice(50, 90), slice(90, 200)):
        _, context = rule(rows[part], torch.zeros(len(rows[part]), dtype=torch.int64))
        rule.learn(context, (target[part] - context[1],))
    inputs, pairs = rule.inputs, rule.pairs
    torch.manual_seed(2)
    for weight in torch.randn(3, 4, 6, dtype=torch.float64):
        trace = torch.trace(weight.t() @ weight @ inputs) - 2 * torch.trace(weight.t() @ pairs)
        assert_same([(target - rows @ weight.t()).square().sum() - trace], [target.square().sum()])


@pytest.mark.parametrize("bias", [False, True])
def test_the_initial_weights_count_for_as_many_samples_as_the_prior_says(bias):
    """The solution is that of least squares with a pull towards them."""
    torch.manual_seed(0)
    rule = rules_of([dense(6, 6, activation=None), half(6, 4, bias), read_out((4,))], prior=3.0, sweeps=1000)[1]
    (x, target), start = seen(20), [p.detach().clone() for p in rule.parameters()]
    out, context = rule(x, torch.zeros(20, dtype=torch.int64))
    rule.learn(context, (target - out,))
    torch.optim.SGD(rule.parameters(), lr=1.0).step()
    code = rule.inputs - 3.0 * torch.eye(len(rule.inputs), dtype=torch.float64)
    before = torch.cat([start[0], start[1].unsqueeze(1)], 1) if bias else start[0]
    found = [p.detach() for p in rule.parameters()]
    after = torch.cat([found[0], found[1].unsqueeze(1)], 1) if bias else found[0]
    assert_same([after @ code + 3.0 * (after - before)], [rule.pairs - 3.0 * before], rtol=1e-9)


def test_forgetting_weighs_the_newest_batch():
    rule = rules_of([dense(6, 9, activation=None, norm=False), read_out((9,))], forgetting=0.25)[0]
    x, y = batch((6,))
    rows = torch.cat([x, torch.ones(16, 1, dtype=torch.float64)], 1)
    for _ in range(2):
        out, context = rule(x, y)
        rule.learn(context, (torch.zeros_like(out),))
    assert_same([rule.inputs], [(0.25 + 0.75 * 0.25) * rows.t() @ rows])
    assert_same([rule.pairs], [(0.25 + 0.75 * 0.25) * out.t() @ rows])


def test_a_rate_below_1_goes_part_of_the_way():
    torch.manual_seed(0)
    rule = rules_of([dense(6, 9, activation=None), read_out((9,))])[0]
    x, y = batch((6,))
    before = rule.linear.weight.detach().clone()
    _, context = rule(x, y)
    rule.learn(context, (batch((9,), seed=3)[0] - context[1],))
    wanted = before - gradients(rule)[0]
    torch.optim.SGD(rule.parameters(), lr=0.5).step()
    assert_same([rule.linear.weight.detach()], [0.5 * (before + wanted)])


@pytest.mark.parametrize(("given", "taken"), [("auto", "features"), ("mean", "mean"), ("features", "features")])
def test_auto_takes_sums_in_every_block(given, taken):
    """Weights that solve for codes which stay do not move, and no optimizer scales that up."""
    blocks = [dense(6, 9, activation=None), read_out((9,))]
    rules = make_rules(build, blocks, (6,), TASK, search=CodeSearch(reduction=given))
    assert [rule.search.reduction for rule in rules] == [taken, taken]


def test_the_last_block_has_a_rate_of_its_own_and_no_memory():
    rules = rules_of([dense(6, 9, activation=None), read_out((9,))], output_rate=0.3)
    assert [rule.parameter_groups()[0][1] for rule in rules] == [1.0, 0.3]
    assert [rule.notes_batches for rule in rules] == [True, False] and not [*rules[1].buffers()]


@pytest.mark.parametrize(
    "body", [nn.Sequential(nn.Linear(6, 9), nn.ReLU()), nn.Sequential(nn.Linear(6, 9), nn.Linear(9, 9))]
)
def test_other_blocks_are_refused(body):
    with pytest.raises(ValueError, match="given: a block of Linear, .*expected: one nn.Linear at its end"):
        rules_of([Block(body), read_out((9,))])
