"""The gate acts on the step: whatever optimizer makes it."""

import pytest
import torch
from tests.support.resumes import TINY
from tests.support.runs import merged

from pipeline.config import Config
from pipeline.engine import gated_stepper
from pipeline.engine.build import build_rules
from pipeline.engine.gated_stepper import GatedStepper, portions_of
from pipeline.engine.gates import WaveGate
from pipeline.engine.stepper import Stepper
from pipeline.resolve import resolve
from pipeline.schedules.plan import Plan
from pipeline.schedules.wave import Wave

OPTIMIZERS = [
    {"name": "adagrad"}, {"name": "adam", "weight_decay": 0.1}, {"name": "adam", "amsgrad": True},
    {"name": "adamw", "weight_decay": 0.1}, {"name": "rmsprop"}, {"name": "rprop"}, {"name": "sgd"},
    {"name": "sgd", "momentum": 0.9, "weight_decay": 0.1}, {"name": "sign_sgd"},
]  # fmt: skip
NEVER, AT_ONCE = 1e9, 0.0


def named(optimizer):
    return "-".join(map(str, optimizer.values()))


class Twins:
    """Two copies of four blocks, one stepped whole, the other by the parts of a gate, with the same gradients."""

    def __init__(self, folder, optimizer, starts=(0.0,) * 4, ramp=0.0, gate=None, is_parted=False):
        changes = {"optimizer": {**optimizer, "lr": 0.01}, "rule": {"name": "pred"}}
        resolved = resolve(Config.from_dict(merged(TINY, changes)), folder)
        self.given = resolved.optimizer, resolved.lr
        build = [build_rules(resolved, resolved.blueprints, range(4), torch.device("cpu")) for _ in range(2)]
        self.whole, self.gated = (dict(enumerate(rules)) for rules in build)
        self.steppers = [Stepper(rules, resolved.optimizer, resolved.lr) for rules in (self.whole, self.gated)]
        wave = WaveGate(Wave(starts, ramp, float("inf"), 5))
        one = dict.fromkeys(range(4), self.steppers[1])
        inner = portions_of(self.gated, resolved.optimizer, resolved.lr) if is_parted else one
        self.gate = GatedStepper(inner, wave if gate is None else gate(self.gated))
        for stepper in (self.steppers[0], self.gate):
            stepper.begin(Plan(0, resolved.modes, (0,) * 4), range(4))

    def step(self, step):
        generator = torch.Generator().manual_seed(step)
        for k in range(4):
            for one, other in zip(self.whole[k].parameters(), self.gated[k].parameters(), strict=True):
                one.grad = torch.randn(one.shape, generator=generator)
                other.grad = one.grad.clone()
        self.steppers[0].step(step)
        self.gate.step(step)

    def weights(self, block, gated=True):
        return [p.detach().clone() for p in (self.gated if gated else self.whole)[block].parameters()]


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=named)
def test_o_g2_a_closed_gate_moves_no_bit_and_an_open_one_every_bit(optimizer, tmp_path):
    """O-G2: in 100 steps of any optimizer a closed gate leaves every bit of a block, and an open one takes the whole
    step."""
    twins = Twins(tmp_path, optimizer, (AT_ONCE, NEVER, AT_ONCE, NEVER))
    before = twins.weights(1)
    for step in range(100):
        twins.step(step)
    assert all(torch.equal(a, b) for a, b in zip(twins.weights(1), before, strict=True))
    for k in (0, 2):
        assert all(torch.equal(a, b) for a, b in zip(twins.weights(k), twins.weights(k, gated=False), strict=True))
    assert all(p.grad is None for p in twins.gated[1].parameters())


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=named)
def test_a_part_of_the_first_step_by_the_equation(optimizer, tmp_path):
    """w <- w_old + r (w - w_old), of weights, biases and the decoder."""
    twins = Twins(tmp_path, optimizer, (AT_ONCE,) * 4, ramp=4.0)
    before = twins.weights(2)
    twins.step(0)
    for old, whole, gated in zip(before, twins.weights(2, gated=False), twins.weights(2), strict=True):
        assert torch.equal(gated, old + 0.25 * (whole - old)) and not torch.equal(gated, old)


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=named)
def test_an_optimizer_begins_with_its_block(optimizer, tmp_path):
    """Whatever gradients there were before: the first steps are those of a new optimizer."""
    late, new = (Twins(tmp_path, optimizer, (AT_ONCE, start, AT_ONCE, AT_ONCE)) for start in (30.0, AT_ONCE))
    for step in range(30):
        late.step(step)
    for step in range(30, 35):
        late.step(step)
        new.step(step)
    assert all(torch.equal(a, b) for a, b in zip(late.weights(1), new.weights(1), strict=True))
    mine, theirs = late.gate.capture(1), new.gate.capture(1)
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(torch.as_tensor(mine[k]), torch.as_tensor(theirs[k])) for k in mine)


@pytest.mark.parametrize("optimizer", [*OPTIMIZERS, {"name": "adam", "clip": 0.1}], ids=named)
def test_blocks_that_are_stepped_one_by_one_learn_the_same(optimizer, tmp_path, monkeypatch):
    starts = (AT_ONCE, 3.0, NEVER, 1.0)
    one = Twins(tmp_path, optimizer, starts, ramp=7.0)
    monkeypatch.setattr(gated_stepper, "PORTION_BYTES", 0)
    parted = Twins(tmp_path, optimizer, starts, ramp=7.0, is_parted=True)
    for step in range(12):
        one.step(step)
        parted.step(step)
    for k in range(4):
        assert all(torch.equal(a, b) for a, b in zip(one.weights(k), parted.weights(k), strict=True))
        mine, theirs = parted.gate.capture(k), one.gate.capture(k)
        assert mine.keys() == theirs.keys()
        assert all(torch.equal(torch.as_tensor(mine[n]), torch.as_tensor(theirs[n])) for n in mine)
    assert parted.gate.num_bytes() == one.gate.num_bytes()


def test_neighbours_share_a_call_of_the_optimizer_as_far_as_the_cache_holds_them(tmp_path, monkeypatch):
    twins = Twins(tmp_path, {"name": "adam"})
    sizes = [sum(p.nbytes for p in twins.gate.parameters(k)) for k in range(4)]

    def portions(limit):
        monkeypatch.setattr(gated_stepper, "PORTION_BYTES", limit)
        found = list(portions_of(twins.gated, *twins.given).values())
        return [found.index(stepper) for stepper in found]

    assert portions(sum(sizes)) == [0, 0, 0, 0] and portions(0) == [0, 1, 2, 3]
    assert portions(sizes[0] + sizes[1]) == [0, 0, 2, 2] and portions(sizes[0]) == [0, 1, 1, 1]


def test_a_parameter_without_a_gradient_and_a_block_that_does_not_learn_stay(tmp_path):
    twins = Twins(tmp_path, {"name": "adam"}, (AT_ONCE,) * 4, ramp=4.0)
    twins.gate.begin(Plan(0, (), (0,) * 4), [0, 1])
    before = {k: twins.weights(k) for k in range(4)}
    first = next(twins.gated[0].parameters())
    for k in (0, 1):
        for p in twins.gated[k].parameters():
            p.grad = None if p is first else torch.ones_like(p)
    twins.gate.step(0)
    same = {k: [torch.equal(a, b) for a, b in zip(before[k], twins.weights(k), strict=True)] for k in range(4)}
    assert same[0] == [True] + [False] * (len(same[0]) - 1) and not any(same[1]) and all(same[2] + same[3])


def test_what_it_tells_and_hands_on(tmp_path):
    twins = Twins(tmp_path, {"name": "adam"}, (AT_ONCE, 2.0, AT_ONCE, NEVER))
    twins.step(0)
    twins.gate.begin(Plan(0, (), (0,) * 4), [0, 1])
    assert [twins.gate.told(k) for k in range(3)] == [{"gate": 1.0}, {"gate": 0.6}, {}]
    assert twins.steppers[0].told(0) == {} and twins.gate.version(0) == twins.steppers[0].version(0) == 0
    state = {name: torch.full_like(value, 3.0) for name, value in twins.gate.capture(2).items()}
    twins.gate.restore(2, state)
    assert state and all(torch.equal(value, state[name]) for name, value in twins.gate.capture(2).items())
    assert [p is q for p, q in zip(twins.gate.parameters(2), twins.steppers[1].parameters(2), strict=True)]
