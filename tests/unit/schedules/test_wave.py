"""The staged wave: parts of steps, and plans that go with them."""

import pickle
from math import inf

import pytest
from tests.support.resumes import TINY
from tests.support.runs import merged

from pipeline.config import Config
from pipeline.config.gate import GateConfig
from pipeline.errors import ConfigError
from pipeline.resolve import resolve
from pipeline.schedules.plan import BlockMode
from pipeline.schedules.probe import Probe
from pipeline.schedules.schedule import EpochResult, Parallel, Sequential
from pipeline.schedules.wave import Staged, Wave, turns_of

TRAIN, FROZEN, IDLE = BlockMode.TRAIN, BlockMode.FROZEN, BlockMode.IDLE


def wave(num_blocks=3, num_steps=10, **gate):
    return Wave.of(GateConfig(**gate), turns_of(num_blocks), num_steps)


@pytest.mark.parametrize(
    ("frozen", "turns"), [((), (0, 1, 2, 3)), ((1,), (0, 0, 1, 2)), ((0,), (0, 0, 1, 2)), ((3,), (0, 1, 2, 2))]
)
def test_blocks_that_never_learn_have_no_turn(frozen, turns):
    assert turns_of(4, frozen) == turns


def test_without_delay_and_ramp_every_step_is_whole():
    found = wave(delay=0.0)
    assert {found.part(k, step) for k in range(3) for step in range(50)} == {1.0}
    assert found.length == inf and pickle.loads(pickle.dumps(found)) == found


def test_a_ramp_by_the_equation():
    """r_l(t) = clip((t - (l - 1) Delta) / w, 0, 1), with t the steps done, the step of the moment included."""
    found = wave(delay=0.5, ramp=0.4)
    for block in range(3):
        for step in range(40):
            assert found.part(block, step) == pytest.approx(min(max((step + 1 - 5 * block) / 4, 0.0), 1.0))
    assert found.mean(0, 0) == pytest.approx((0.25 + 0.5 + 0.75 + 7) / 10) and found.mean(2, 3) == 1.0


def test_decimals_are_exact():
    """Ten delays of 0.1 epochs of 10 steps: block k starts with step k, and no rounding moves one."""
    found = wave(30, delay=0.1, train_for=0.3)
    for block in range(30):
        assert [step for step in range(60) if found.part(block, step) > 0] == [block, block + 1, block + 2]


@pytest.mark.parametrize(
    "gate", [
        {"delay": 1.0}, {"delay": 0.5, "ramp": 0.7}, {"delay": 0.3, "ramp": 2.0, "train_for": 1.5},
        {"delay": 2.0, "train_for": 2.0}, {"delay": 0.0, "train_for": 1.0},
    ],
)  # fmt: skip
def test_a_block_that_takes_a_step_trains_and_one_that_does_not_start_is_idle(gate):
    found, plans = wave(**gate), Staged(3, 8, GateConfig(**gate))
    for epoch in range(8):
        plan = plans.plan(epoch, ())
        for block in range(3):
            parts = [found.part(block, step) for step in range(10 * epoch, 10 * epoch + 10)]
            later = [found.part(block, step) for step in range(10 * epoch, 200)]
            expected = TRAIN if any(parts) else IDLE if any(later) else FROZEN
            has_begun = any(found.part(block, step) for step in range(10 * epoch))
            assert plan.modes[block] is expected or (expected is FROZEN and not has_begun)
    assert plans.plan(8, ()) is None


def test_its_plans_follow_the_runs_clock():
    plan = Staged(3, 5, GateConfig(delay=2.0), eval_every=2).plan(2, ())
    assert plan.modes == (TRAIN, TRAIN, IDLE) and plan.lr_epochs == (2, 2, 2) and not plan.evaluate
    assert Staged(3, 5, GateConfig(delay=0.0)).plan(3, ()) == Parallel(3, 5).plan(3, ())
    kept_still = Staged(3, 5, GateConfig(delay=1.0)).without(frozenset({1}))
    assert [kept_still.plan(epoch, ()).modes for epoch in (0, 1)] == [(TRAIN, FROZEN, IDLE), (TRAIN, FROZEN, TRAIN)]


def test_its_modes_are_those_of_blocks_that_take_turns():
    """delay = train_for and no ramp: the sequential mode."""
    staged, turns = Staged(3, 6, GateConfig(delay=2.0, train_for=2.0)), Sequential(3, 2, patience=9, cached=False)
    history = []
    for epoch in range(6):
        modes = staged.plan(epoch, ()).modes
        assert modes == (FROZEN,) * (epoch // 2) + (TRAIN,) + (IDLE,) * (2 - epoch // 2)
        plan = turns.plan(epoch, history)
        assert plan.modes == modes
        history.append(EpochResult(plan, (1.0,) * 3))


AXES = {"form": "G1", "probe_every": 2}
PLAIN = {"norm": "none", "activation": "tanh", "dropout": 0.0}
WRONG = {
    "never": ({"gate": {"delay": 1.0}}, "the last block would never start .*after 3 epochs, with train.epochs = 3"),
    "gap": ({"gate": {"delay": 0.5, "train_for": 0.25}}, "between a block's end and .*gate.train_for = 0.25 with"),
    "over": ({"gate": {"delay": 0.0, "train_for": 2.0}}, "every block would be frozen .*train.epochs = 3, with a last"),
    "chosen": ({"gate": {"delay": 0.5}, "dataset": {"validation": 0.2}}, "no epoch is chosen .*form = .G3. with"),
    "probe": ({"gate": {"form": "G2", "probe_every": 15}}, "a second time .*probe_every = 15 in a run of 15"),
    "settles": ({"gate": AXES, "rule": {"name": "pc"}, "model": PLAIN}, "a probe shows .*G1.* rule pc, .*settle on"),
    "publishes": ({"gate": AXES, "rule": {"name": "readout"}}, "a probe shows .* rule readout, .*the last one learns"),
    "mixed": ({"gate": AXES, "rule": {"name": "dfa", "blocks": {"0": {"name": "pred"}}}},
              "no probe passes blocks of several ways .*the mode gated with the rules"),
    "feedback": ({"rule": {"name": "dfa"}}, "the gated mode trains blocks before those above them exist .*dfa"),
    "frozen": ({"gate": {"delay": 0.5}, "train": {"freeze": "last"}}, "the gated mode ends with the last block"),
    "replicas": ({"run": {"replicas": 2}}, "the mode gated has a gate for each block, and has no replicas"),
    "emulated": ({"chaos": {"compute": "sleep"}}, "compute cannot be emulated .*the mode gated"),
    "range": ({"gate": {"delay": -1.0}}, "gate.delay"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_is_refused(name, tmp_path):
    changes, message = WRONG[name]
    with pytest.raises(ConfigError, match=message):
        resolve(Config.from_dict(merged(TINY, {"schedule": {"mode": "gated"}, **changes})), tmp_path)


@pytest.mark.parametrize(
    ("mode", "form", "wave", "probe", "schedule"),
    [
        ("gated", "G3", (0.0, 2.5, 5.0, 7.5), None, Staged), ("gated", "G1", None, Probe(7, 52), Parallel),
        ("gated", "G4", None, Probe(7, 52), Parallel), ("parallel", "G3", None, None, Parallel),
        ("parallel", "G2", None, None, Parallel),
    ],
)  # fmt: skip
def test_only_its_mode_has_a_wave_or_a_probe(mode, form, wave, probe, schedule, tmp_path):
    """The section is there for every mode: a comparison changes one word."""
    gate = {"form": form, "delay": 0.5, "probe_every": 7}
    found = resolve(Config.from_dict(merged(TINY, {"schedule": {"mode": mode}, "gate": gate})), tmp_path)
    assert (found.wave and found.wave.starts) == wave and found.probe == probe
    assert type(found.schedule()) is schedule
