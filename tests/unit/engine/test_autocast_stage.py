"""What autocast must not round, and who is left to autograd."""

import pytest
import torch
from torch import nn

from pipeline.config import Config
from pipeline.data.task import Binary, Classification
from pipeline.engine.autocast_stage import AutocastStage
from pipeline.learning.rule import BlockSpec
from pipeline.learning.similarity import similarity, similarity_loss
from pipeline.network.block import Block
from pipeline.numerics.autocast import at_least_float32, autocast, exact_product
from pipeline.optim.lr import LrSchedule
from pipeline.optim.optimizers import load_optimizer
from pipeline.resolve import build_rule, resolve
from pipeline.rules import dfa, linear_decoder
from pipeline.schedules.plan import BlockMode, Plan

CPU = torch.device("cpu")


def low(*shape):
    return torch.randn(*shape).bfloat16()


def test_products_that_must_be_exact_are():
    a, b = torch.randn(5, 7), torch.randn(7, 3)
    with autocast(CPU):
        assert (a @ b).dtype == torch.bfloat16
        assert torch.equal(exact_product(a, b), torch.mm(a, b, out=torch.empty(5, 3)))
    assert torch.equal(exact_product(a, b), a @ b)
    assert at_least_float32(low(2)).dtype == torch.float32
    assert at_least_float32(a) is a and at_least_float32(a.double()).dtype == torch.float64


@pytest.mark.parametrize("shape", [(12, 9), (12, 5, 4, 4), (12, 3, 4, 4)])
def test_the_similarity_loss_is_that_of_the_same_features_in_float32(shape):
    features, y = low(*shape).requires_grad_(), torch.arange(12) % 5
    full = features.detach().float().requires_grad_()
    with autocast(CPU):
        loss = similarity_loss(features, y, 5)
        loss.backward()
        alike = similarity(features)
    expected = similarity_loss(full, y, 5)
    expected.backward()
    assert loss.dtype == alike.dtype == torch.float32
    assert torch.equal(loss, expected) and torch.equal(alike, similarity(full))
    assert torch.equal(features.grad, full.grad.bfloat16())


def test_a_weight_met_under_no_grad_first_still_gets_its_gradient():
    layer, x = nn.Linear(4, 3), torch.randn(2, 4)
    with autocast(CPU):
        with torch.no_grad():
            layer(x)
        layer(x).float().sum().backward()
    assert layer.weight.grad.dtype == torch.float32 and layer.weight.grad.any()


def test_the_error_that_is_broadcast_and_the_class_means_are_float32():
    spec = BlockSpec(1, 2, (4,), (1,), (1,), Binary())
    top = dfa.build(Block(nn.Linear(4, 1)), spec)
    hidden = linear_decoder.build(Block(nn.Linear(4, 6)), BlockSpec(0, 2, (4,), (6,), (6,), Binary()), decoder="fixed")
    for rule in (top, hidden):
        rule.leave_to_autograd()
    x, y = torch.randn(8, 4), torch.arange(8) % 2
    with autocast(CPU):
        out, context = top(x, y)
        learned = top.learn(context, ())
        hidden.learn(hidden(x, y)[1], ())
    assert out.dtype == torch.bfloat16
    assert learned.upstream[0].dtype == learned.loss.dtype == torch.float32
    with autocast(CPU):
        decoded = hidden.decode(hidden(x, y)[1]).float()
    expected = 0.9 * torch.tensor([0.0, 1.0]) + 0.1 * torch.stack([decoded[y == 0].mean(), decoded[y == 1].mean()])
    torch.testing.assert_close(hidden.class_means, expected)


@pytest.mark.parametrize("rule", ["linear_decoder", "pred", "dfa", "fa"])
def test_rules_are_left_to_autograd(tmp_path, rule):
    table = {"model": {"name": "mlp", "depth": 2, "width": 8, "norm": "none"}, "rule": {"name": rule}}
    closed = {}
    for kind in ("none", "bfloat16"):
        resolved = resolve(Config.from_dict({**table, "run": {"autocast": kind}}), tmp_path)
        rules = [build_rule(resolved.config, b, s) for b, s in zip(resolved.blueprints, resolved.specs, strict=True)]
        closed[kind] = [r.dense is not None for r in rules]
        assert [r.draws for r in rules] == [not c for c in closed[kind]]
    assert closed == {"none": [True] * 3, "bfloat16": [False] * 3}


def test_a_stage_rounds_on_its_way_and_nothing_that_it_keeps():
    torch.manual_seed(0)
    rule = linear_decoder.build(Block(nn.Linear(4, 6)), BlockSpec(0, 2, (4,), (6,), (6,), Classification(3)))
    rule.leave_to_autograd()
    optimizer = load_optimizer("adam", {"lr": 0.1})
    stage = AutocastStage(
        [rule], range(1), 2, optimizer=optimizer, lr=LrSchedule(0.1, (), 1.0), seed=0, batch_size=8, stash=False,
        device=CPU,
    )  # fmt: skip
    stage.begin(Plan(0, (BlockMode.TRAIN, BlockMode.TRAIN), (0, 0), evaluate=True))
    x, y = torch.randn(8, 4), torch.arange(8) % 3
    out = stage.forward(0, x, y, 1.0)
    assert torch.equal(out, nn.functional.linear(*(t.detach().bfloat16() for t in (x, *rule.block.body.parameters()))))
    stage.learn_at_once(0)
    assert {p.grad.dtype for p in rule.parameters()} == {torch.float32}
    stage.step()
    tested, contexts = stage.evaluation.forward(x, y, 0)
    stage.evaluation.score(contexts, y)
    assert tested.dtype == torch.bfloat16 and not torch.equal(tested, out)
    assert 0 <= stage.scores()[0]["test_accuracy"] <= 1 and stage.optimizer_bytes() >= 2 * 4 * (24 + 6 + 18)
    assert not torch.is_autocast_enabled("cpu")
