"""The gate G1m: what a block learns from, by hand."""

import pytest
import torch
from tests.support.resumes import TINY
from tests.support.runs import merged

from pipeline.config import Config
from pipeline.config.gate import GateConfig
from pipeline.engine.build import build_rules
from pipeline.engine.steady import SteadyGate
from pipeline.resolve import resolve

TAU = 0.5


def rules_of(folder, gated=True, tau=TAU, **changes):
    """Blocks in training, two without changes, and their gate, without memory."""
    table = merged(TINY, {"rule": {"name": "pred"}, "model": {"depth": 1, "dropout": 0.0}, **changes})
    resolved = resolve(Config.from_dict(table), folder)
    blocks = range(resolved.num_blocks)
    rules = dict(enumerate(build_rules(resolved, resolved.blueprints, blocks, torch.device("cpu"))))
    gate = SteadyGate(GateConfig(form="G1m", tau=tau, memory=0.0), rules, 5) if gated else None
    generator = torch.Generator().manual_seed(7)
    for rule in rules.values():
        rule.train()
        for p in rule.parameters():  # or the output block would begin with weights of 0
            p.data.normal_(generator=generator)
    return rules, gate


def probes(width, seed=0):
    generator = torch.Generator().manual_seed(seed)
    before = torch.randn(8, width, generator=generator)
    return before, before + torch.linspace(0.0, 2.0, width)


def test_one_step_by_hand(tmp_path):
    """The output block: softmax regression on the cross entropy."""
    rules, gate = rules_of(tmp_path)
    before, now = probes(12)
    gate.observe(0, 1, before)
    gate.observe(5, 1, now)
    rho = (now - before).abs().mean(0) / (now.std(0, correction=0) + 1e-6)
    g, mu = 1 / (1 + (rho / TAU) ** 2), now.mean(0)
    assert g[0] == 1.0 and g[-1] < 0.2
    x, y = torch.randn(6, 12, generator=torch.Generator().manual_seed(1)), torch.tensor([0, 1, 2, 3, 0, 1])
    weight, bias = (p.detach().clone() for p in rules[1].block.parameters())
    out, context = rules[1](x, y)
    rules[1].learn(context, ())
    steady = g * x + (1 - g) * mu
    error = (torch.softmax(steady @ weight.T + bias, 1) - torch.nn.functional.one_hot(y, 4)) / 6
    torch.testing.assert_close(out, x @ weight.T + bias)  # what is passed on is the output for the input as it is
    grads = [p.grad for p in rules[1].block.parameters()]
    torch.testing.assert_close(grads[0], error.T @ steady)
    torch.testing.assert_close(grads[1], error.sum(0))
    assert not torch.allclose(grads[0], error.T @ x)


def test_maps_are_mixed_channel_by_channel(tmp_path):
    _, gate = rules_of(tmp_path)
    before = torch.randn(5, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    now = before + torch.tensor([0.0, 1.0, 1e9]).view(3, 1, 1)
    gate.observe(0, 1, before)
    gate.observe(5, 1, now)
    x = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    found = gate.steady(1, x)
    assert torch.equal(found[:, 0], x[:, 0])
    torch.testing.assert_close(found[:, 2], now[:, 2].mean().expand(2, 4, 4))
    assert ((found[:, 1] - x[:, 1]) * (now[:, 1].mean() - x[:, 1]) > 0.0).all()  # on the way there


@pytest.mark.parametrize("tau", [1e30, TAU])
def test_where_nothing_moves_nothing_is_run_twice(tmp_path, tau):
    rules, gate = rules_of(tmp_path, tau=tau)
    before, now = probes(12)
    gate.observe(0, 1, before)
    assert gate.steady(1, before) is None  # nothing is known yet
    gate.observe(5, 1, before if tau == TAU else now)
    assert gate.steady(1, before) is None
    calls = []
    forward = rules[1].forward
    rules[1].forward = lambda *arguments: calls.append(arguments) or forward(*arguments)
    rules[1](before, torch.zeros(8, dtype=torch.int64))
    assert len(calls) == 1


def test_running_statistics_are_those_of_the_input_as_it_is(tmp_path):
    plain, _ = rules_of(tmp_path, gated=False, model={"depth": 2, "dropout": 0.0})
    mixed, gate = rules_of(tmp_path, model={"depth": 2, "dropout": 0.0})
    before, now = probes(12)
    gate.observe(0, 1, before)
    gate.observe(5, 1, now)
    x, y = torch.randn(6, 12, generator=torch.Generator().manual_seed(1)), torch.tensor([0, 1, 2, 3, 0, 1])
    for _ in range(2):
        outs = [rules[1](x, y) for rules in (plain, mixed)]
        for rules, (_, context) in zip((plain, mixed), outs, strict=True):
            rules[1].learn(context, ())
        assert torch.equal(outs[0][0], outs[1][0])
    buffers = [dict(rules[1].named_buffers()) for rules in (plain, mixed)]
    assert any("running_mean" in name for name in buffers[0])
    assert all(torch.equal(buffers[0][name], buffers[1][name]) for name in buffers[0])
    own = [p.grad for p in plain[1].parameters()]
    assert not all(torch.equal(a, p.grad) for a, p in zip(own, mixed[1].parameters(), strict=True))


def test_a_block_is_taken_up_with_its_means(tmp_path):
    rules, gate = rules_of(tmp_path)
    before, now = probes(12)
    gate.observe(0, 1, before)
    gate.observe(5, 1, now)
    _, other = rules_of(tmp_path)
    other.restore(1, gate.capture(1))
    assert torch.equal(other.steady(1, before), gate.steady(1, before))
    assert gate.steady(0, before) is None  # the first block's input never moves


def test_in_evaluation_a_block_is_as_it_is(tmp_path):
    rules, gate = rules_of(tmp_path)
    for step, x in enumerate(probes(12)):
        gate.observe(step, 1, x)
    x, y = probes(12)[0], torch.zeros(8, dtype=torch.int64)
    training = rules[1].decode(rules[1](x, y)[1])
    rules[1].eval()
    out, context = rules[1](x, y)
    assert torch.equal(rules[1].decode(context), out) and not torch.equal(training, out)
