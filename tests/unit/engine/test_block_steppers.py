import pytest
import torch
from tests.support.resumes import TINY
from tests.support.runs import merged

from pipeline.config import Config
from pipeline.engine.block_steppers import BlockSteppers, stepper_of
from pipeline.engine.build import build_rules
from pipeline.resolve import resolve
from pipeline.schedules.plan import BlockMode, Plan

OWN = {"optimizer": {"blocks": {"1": {"name": "sgd", "lr": 0.5}, "2": {"lr": 0.125}}}, "train": {"freeze": "0"}}


@pytest.fixture
def stepped(tmp_path):
    """Four blocks, the first of them frozen, all gradients 1, after one step."""
    resolved = resolve(Config.from_dict(merged(TINY, OWN)), tmp_path)
    built = build_rules(resolved, resolved.blueprints, range(4), torch.device("cpu"))
    rules = dict(enumerate(built))
    before = {k: [p.detach().clone() for p in rule.parameters()] for k, rule in rules.items()}
    stepper = stepper_of(rules, resolved.block_optimizers, resolved.lr)
    stepper.begin(Plan(0, resolved.modes, (0,) * 4), [1, 2, 3])
    for rule in built:
        for p in rule.parameters():
            p.grad = torch.ones_like(p)
    stepper.step()
    return stepper, rules, before


def test_each_block_is_stepped_by_its_own_at_its_rate(stepped):
    stepper, rules, before = stepped
    assert isinstance(stepper, BlockSteppers)
    for k, change in {0: 0.0, 1: 0.5, 2: 0.125, 3: 0.01}.items():  # Adam's first step is its rate
        for p, was in zip(rules[k].parameters(), before[k], strict=True):
            assert torch.allclose(was - p, torch.full_like(p, change), atol=1e-4)
    assert all(p.grad is None for k in (1, 2, 3) for p in rules[k].parameters())


def test_states_are_those_of_each_block(stepped):
    stepper, rules, _ = stepped
    assert stepper.capture(0) == {} and stepper.parameters(0) == []
    assert not any("exp_avg" in name for name in stepper.capture(1)) and "0/exp_avg" in stepper.capture(2)
    assert stepper.num_bytes() > 0
    other = {name: torch.full_like(value, 3.0) for name, value in stepper.capture(3).items()}
    stepper.restore(3, other)
    assert all(torch.equal(value, other[name]) for name, value in stepper.capture(3).items())
    stepper.restore(0, {})
    with pytest.raises(ValueError, match="block 0 is frozen and trains no parameters"):
        stepper.restore(0, {"0/exp_avg": torch.zeros(1)})


def test_frozen_blocks_stay_out_of_plans(tmp_path):
    resolved = resolve(Config.from_dict(merged(TINY, OWN)), tmp_path)
    plan = resolved.schedule().plan(0, ())
    assert plan.modes == resolved.modes == (BlockMode.FROZEN, *[BlockMode.TRAIN] * 3)
    assert resolved.optimizer_of(1).name == "sgd" and resolved.optimizer_of(0).name == "adam"
