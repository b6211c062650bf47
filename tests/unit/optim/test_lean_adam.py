"""Adam without bookkeeping: the bits of torch's own, whatever changes between steps."""

import copy

import pytest
import torch
from torch import nn, optim

from pipeline.optim.lean_adam import LeanAdam, LeanAdamW

KINDS = {"adam": (LeanAdam, optim.Adam), "adamw": (LeanAdamW, optim.AdamW)}


def pair(kind, **options):
    lean, usual = KINDS[kind]
    shapes = [(40, 30), (30,), (7, 5)]
    torch.manual_seed(0)
    params = [[nn.Parameter(torch.randn(s)) for s in shapes]]
    params.append([nn.Parameter(p.detach().clone()) for p in params[0]])
    return params, (lean(params[0], **options), usual(params[1], **options, fused=True))


def step(params, optimizers, with_gradient):
    for k in range(len(params[0])):
        gradient = torch.randn(params[0][k].shape) if k in with_gradient else None
        for side in params:
            side[k].grad = None if gradient is None else gradient.clone()
    for optimizer in optimizers:
        optimizer.step()


def assert_same(params, optimizers):
    for ours, theirs in zip(*params, strict=True):
        assert torch.equal(ours, theirs)
        mine, usual = optimizers[0].state[ours], optimizers[1].state[theirs]
        assert mine.keys() == usual.keys() and all(torch.equal(mine[k], usual[k]) for k in mine)


@pytest.mark.parametrize("options", [
    {"lr": 1e-2}, {"lr": 3e-3, "betas": (0.8, 0.99), "eps": 1e-6, "weight_decay": 0.1}, {"amsgrad": True},
])  # fmt: skip
@pytest.mark.parametrize("kind", KINDS)
def test_every_step_gives_the_bits_of_torch(kind, options):
    params, optimizers = pair(kind, **options)
    for _ in range(6):
        step(params, optimizers, {0, 1, 2})
        assert_same(params, optimizers)


def test_parameters_may_have_gradients_in_some_steps_only():
    params, optimizers = pair("adam")
    for having in ({0}, {0, 1}, {0, 1, 2}, {0, 1, 2}, {2}, set(), {0, 1, 2}, {0, 1, 2}):
        step(params, optimizers, having)
        assert_same(params, optimizers)
    assert optimizers[0].state[params[0][0]]["step"] == 6


def test_what_has_no_gradient_for_long_costs_no_bookkeeping(monkeypatch):
    """As of a block that a gate holds, or that rests: torch's own step is taken when the set changes, and not again."""
    params, optimizers = pair("adam")
    step(params, optimizers, {0, 2})
    theirs, calls = optim.Adam.step, []

    def counted(self, closure=None):
        calls.append(isinstance(self, LeanAdam))
        return theirs(self, closure)

    for kind in (optim.Adam, *LeanAdam.__mro__[1:2]):
        monkeypatch.setattr(kind, "step", counted)
    for having in ({0, 2}, {0, 2}, {0, 1, 2}, {0, 1, 2}, {1}, {1}):
        step(params, optimizers, having)
        assert_same(params, optimizers)
    assert calls.count(True) == 2


def test_groups_and_rates_may_change():
    params, optimizers = pair("adam")
    for _ in range(2):
        step(params, optimizers, {0, 1, 2})
    for side, optimizer in zip(params, optimizers, strict=True):
        shared = {k: v for k, v in optimizer.param_groups[0].items() if k not in ("params", "lr")}
        optimizer.param_groups = [{**shared, "params": side[:1], "lr": 0.1}, {**shared, "params": side[1:], "lr": 0.2}]
    for _ in range(2):
        step(params, optimizers, {0, 1, 2})
        assert_same(params, optimizers)
    for optimizer in optimizers:
        optimizer.param_groups[0]["lr"] = 0.5
    step(params, optimizers, {0, 1, 2})
    assert_same(params, optimizers)


def test_a_group_may_be_added():
    params, optimizers = pair("adam")
    for _ in range(2):
        step(params, optimizers, {0, 1, 2})
    for side, optimizer in zip(params, optimizers, strict=True):
        side.append(nn.Parameter(torch.ones(4)))
        optimizer.add_param_group({"params": side[-1:], "lr": 0.5})
    for _ in range(2):
        step(params, optimizers, {0, 1, 2, 3})
        assert_same(params, optimizers)


def test_a_warm_step_calls_the_kernel_alone(monkeypatch):
    params, optimizers = pair("adam")
    step(params, optimizers, {0, 1, 2})
    monkeypatch.setattr(optim.Adam, "step", None)
    params[0][0].grad = torch.ones_like(params[0][0])
    before = params[0][0].detach().clone()
    optimizers[0].step()
    assert not torch.equal(params[0][0], before)


def test_the_state_can_be_saved_and_loaded():
    params, optimizers = pair("adam")
    for _ in range(3):
        step(params, optimizers, {0, 1, 2})
    optimizers[0].load_state_dict(copy.deepcopy(optimizers[1].state_dict()))
    step(params, optimizers, {0, 1, 2})
    assert_same(params, optimizers)
