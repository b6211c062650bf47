"""The optimizer of a stage: rates from step to step, decay of matrices, norms of blocks; torch is the oracle."""

import pytest
import torch
from torch import nn

from pipeline.data.task import Classification
from pipeline.engine.stepper import Stepper
from pipeline.learning.rule import BlockSpec
from pipeline.network.block import Block
from pipeline.optim.options import parse_optimizer
from pipeline.rules.pred import build
from pipeline.schedules.plan import BlockMode, Plan

STEPS = 6


def rules():
    """Two hidden blocks with normalisation, and the last."""
    torch.manual_seed(0)
    sizes, found = [5, 8, 6, 4], {}
    for k, (a, b) in enumerate(zip(sizes, sizes[1:], strict=False)):
        body = nn.Sequential(nn.Linear(a, b), nn.LayerNorm(b), nn.Tanh()) if k < 2 else nn.Linear(a, b)
        found[k] = build(Block(body), BlockSpec(k, 3, (a,), (b,), (b,), Classification(4)))
    return found


def plan(epoch=0, lr_epochs=None, modes=(BlockMode.TRAIN,) * 3):
    return Plan(epoch, modes, lr_epochs or (epoch,) * 3)


def gradients(rule, draw):
    for p in rule.parameters():
        p.grad = torch.randn(p.shape, generator=draw)


def stepped(name, options, num_epochs=2):
    """Weights after epochs of ``STEPS`` steps, each block's in a list."""
    section, blocks, draw = parse_optimizer(name, options), rules(), torch.Generator().manual_seed(1)
    stepper = Stepper(blocks, section.optimizer, section.lr(num_epochs, STEPS))
    for epoch in range(num_epochs):
        stepper.begin(plan(epoch), range(3))
        for step in range(STEPS):
            for rule in blocks.values():
                gradients(rule, draw)
            stepper.step(epoch * STEPS + step)
    return [[p.detach() for p in rule.parameters()] for rule in blocks.values()]


def plain(name, options, *, clip=0.0, matrices=False, rate=lambda n: 1.0, num_epochs=2):
    """The same by one of torch's optimizers for each block, its steps one after another."""
    blocks, draw = rules(), torch.Generator().manual_seed(1)
    kinds = {"adamw": torch.optim.AdamW, "sgd": torch.optim.SGD, "adam": torch.optim.Adam}
    optimizers = []
    for rule in blocks.values():
        flat = [p for p in rule.parameters() if p.dim() < 2]
        full = [p for p in rule.parameters() if p.dim() > 1]
        groups = [{"params": full}, {"params": flat, **({"weight_decay": 0.0} if matrices else {})}]
        optimizers.append(kinds[name](groups, **options))
    for step in range(num_epochs * STEPS):
        for rule, optimizer in zip(blocks.values(), optimizers, strict=True):
            gradients(rule, draw)
            if clip:
                norm = torch.cat([p.grad.flatten() for p in rule.parameters()]).norm()
                for p in rule.parameters():
                    p.grad *= min(1.0, clip / float(norm))
            for group in optimizer.param_groups:
                group["lr"] = options["lr"] * rate(step)
            optimizer.step()
    return [[p.detach() for p in rule.parameters()] for rule in blocks.values()]


def assert_close(found, expected):
    for mine, theirs in zip(found, expected, strict=True):
        for a, b in zip(mine, theirs, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def equal(found, expected):
    return all(torch.equal(a, b) for x, y in zip(found, expected, strict=True) for a, b in zip(x, y, strict=True))


NAMES = {"adamw": {"lr": 0.01, "weight_decay": 0.3}, "sgd": {"lr": 0.05, "weight_decay": 0.1, "momentum": 0.9}}


@pytest.mark.parametrize("name", NAMES)
def test_decay_of_matrices_alone(name):
    options = NAMES[name]
    found = stepped(name, {**options, "decay_on": "matrices"})
    assert_close(found, plain(name, options, matrices=True))
    every = stepped(name, options)
    assert_close(every, plain(name, options))
    for mine, theirs in zip(found, every, strict=True):
        for a, b in zip(mine, theirs, strict=True):
            assert torch.equal(a, b) == (a.dim() > 1)


@pytest.mark.parametrize("name", NAMES)
def test_the_norm_of_each_block_is_bounded_by_itself(name):
    options = NAMES[name]
    assert_close(stepped(name, {**options, "clip": 2.0}), plain(name, options, clip=2.0))
    assert equal(stepped(name, {**options, "clip": 1e6}), stepped(name, options))  # no bound is met: the same bits


@pytest.mark.parametrize("name", NAMES)
def test_the_rate_follows_its_course(name):
    options = NAMES[name]
    found = stepped(name, {**options, "course": "linear", "warmup_steps": 4, "final_fraction": 0.5})
    assert_close(found, plain(name, options, rate=lambda n: (n + 1) / 4 if n < 4 else 1 - 0.5 * (n - 4) / 8))


def test_a_block_that_began_later_is_earlier_on_its_course():
    section = parse_optimizer("sgd", {"lr": 1.0, "course": "linear", "final_fraction": 0.0})
    blocks = rules()
    stepper = Stepper(blocks, section.optimizer, section.lr(2, STEPS))
    modes = (BlockMode.FROZEN, BlockMode.TRAIN, BlockMode.TRAIN)
    stepper.begin(plan(3, (2, 1, 0), modes), (1, 2))
    for k, factor in ((1, 1 - 8 / 12), (2, 1 - 2 / 12)):
        parameter = next(iter(blocks[k].parameters()))
        before = parameter.detach().clone()
        parameter.grad = torch.ones_like(parameter)
        stepper.step(3 * STEPS + 2)
        torch.testing.assert_close(before - parameter, torch.full_like(parameter, factor))


def test_what_a_plan_leaves_out_is_not_clipped_and_comes_back_with_its_decay():
    section = parse_optimizer("sgd", {"lr": 1.0, "weight_decay": 0.5, "decay_on": "matrices", "clip": 1.0})
    blocks = rules()
    stepper = Stepper(blocks, section.optimizer, section.lr(2, STEPS))
    stepper.begin(plan(0, modes=(BlockMode.FROZEN,) * 3), ())
    stepper.begin(plan(1, modes=(BlockMode.FROZEN, BlockMode.FROZEN, BlockMode.TRAIN)), (2,))
    weight = blocks[2].block.body.weight
    before = torch.ones_like(weight)
    weight.data.copy_(before)
    weight.grad = torch.zeros_like(weight)
    stepper.step(STEPS)
    assert torch.equal(weight, before / 2)
