"""Gates that measure: what they make of a probe, and what a block makes of them."""

import math

import pytest
import torch
from tests.support.resumes import TINY
from tests.support.runs import merged
from tests.unit.engine.test_gated_stepper import OPTIMIZERS, Twins, named

from pipeline.config import Config
from pipeline.config.gate import GateConfig
from pipeline.engine.gate_forms import gate_of
from pipeline.engine.gates import AxisGate, BlockGate, TriggeredGate, WaveGate
from pipeline.resolve import resolve

ADAM = {"name": "adam"}
WIDTH, SAMPLES = 12, 8


def gated(folder, kind, optimizer=ADAM, num_steps=5, **config):
    return Twins(folder, optimizer, gate=lambda rules: kind(GateConfig(**config), rules, num_steps))


def probe(gate, step, x, block=1):
    gate.observe(step, block, x)


def inputs(seed=0):
    return torch.randn(SAMPLES, WIDTH, generator=torch.Generator().manual_seed(seed))


def moved(x, axes):
    return x + torch.tensor([1e6 if j in axes else 0.0 for j in range(WIDTH)])


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=named)
def test_o_g2_a_column_whose_part_is_0_keeps_every_bit_and_one_whose_part_is_1_is_the_optimizers(optimizer, tmp_path):
    """O-G2: in 100 steps of any optimizer a column of weights whose part is 0 keeps every bit."""
    twins = gated(tmp_path, AxisGate, optimizer, tau=1e-30)
    x = inputs()
    probe(twins.gate.gate, 0, x)
    probe(twins.gate.gate, 5, moved(x, {0, 3}))
    columns, part = twins.gate.gate.columns(1), twins.gate.gate.part(1, 5)
    weight, parts = columns.weight, columns.parts
    assert parts.tolist() == [[0.0 if j in (0, 3) else 1.0 for j in range(WIDTH)]] and part == pytest.approx(10 / 12)
    index = [p is weight for p in twins.gated[1].parameters()].index(True)
    before = twins.weights(1)[index]
    for step in range(100):
        twins.step(step)
    mine, whole = twins.weights(1)[index], twins.weights(1, gated=False)[index]
    for j in range(WIDTH):
        assert torch.equal(mine[:, j], before[:, j] if j in (0, 3) else whole[:, j])
    assert not torch.equal(whole[:, 0], before[:, 0])


def test_everything_else_of_a_block_takes_the_mean_of_its_axes(tmp_path):
    twins = gated(tmp_path, AxisGate, tau=0.5, memory=0.0)
    x = inputs()
    probe(twins.gate.gate, 0, x)
    probe(twins.gate.gate, 5, x * torch.linspace(1.0, 2.0, WIDTH))
    weight, parts = twins.gate.gate.columns(1).weight, twins.gate.gate.columns(1).parts
    assert parts[0, 0] == 1.0 and (parts[0, 1:] < parts[0, :-1]).any() and parts.mean() < 0.9
    before, part = twins.weights(1), twins.gate.gate.part(1, 0)
    assert part == float(parts.mean())
    twins.step(0)
    rows = zip(twins.gated[1].parameters(), before, twins.weights(1), twins.weights(1, gated=False), strict=True)
    for parameter, old, mine, whole in rows:
        expected = old + (parts if parameter is weight else part) * (whole - old)
        assert torch.allclose(mine, expected, atol=1e-7) and not torch.equal(mine, old)


@pytest.mark.parametrize("kind", [AxisGate, BlockGate, TriggeredGate])
def test_o_g3_the_first_block_takes_whole_steps(kind, tmp_path):
    """O-G3: the part of the first block is exactly 1."""
    twins = gated(tmp_path, kind, tau=1e-9, start="closed")
    for step in range(4):
        probe(twins.gate.gate, step, inputs(step), block=0)
        assert twins.gate.gate.part(0, step) == 1.0 and twins.gate.gate.columns(0) is None
    assert "last" not in twins.gate.gate.capture(0)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("before", [inputs(), torch.zeros(SAMPLES, WIDTH)], ids=["moving", "dead"])
@pytest.mark.parametrize("kind", [AxisGate, BlockGate, TriggeredGate])
def test_a_probe_that_is_not_finite_changes_nothing(kind, before, bad, tmp_path):
    """Also where it follows an input of zeros, which has no length to be compared with."""
    gates = [gated(tmp_path, kind, tau=0.5).gate.gate for _ in range(2)]
    for gate in gates:
        probe(gate, 0, before)
    poisoned = before.clone()
    poisoned[2, 3] = bad
    probe(gates[0], 5, poisoned)
    assert gates[0].version(1) == 1 and torch.equal(gates[0].capture(1)["last"], before)
    for gate in gates:
        probe(gate, 10, inputs(1))
    found, expected = (gate.capture(1) for gate in gates)
    assert found.keys() == expected.keys() and gates[0].part(1, 10) == gates[1].part(1, 10)
    assert all(torch.equal(torch.as_tensor(found[name]), torch.as_tensor(expected[name])) for name in found)


def test_o_g4_the_drift_of_an_axis_that_stays_and_of_one_that_moves_by_gaussian_steps(tmp_path):
    """O-G4: the drift of an axis that stays is 0, and that of one with Gaussian steps of size s tends to s sqrt(2 / pi)
    / std."""
    gate, length = gated(tmp_path, AxisGate, tau=1.0).gate.gate, 0.05
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(4000, WIDTH, generator=draw)
    for q in range(60):
        probe(gate, q, x)
        std = x[:, 1].std().item()
        x = x.clone()
        x[:, 1] += length * torch.randn(4000, generator=draw)
    drift = gate.capture(1)["drift"]
    assert not drift[0].any() and not drift[2:].any()
    assert drift[1].item() == pytest.approx(length * math.sqrt(2 / math.pi) / std, rel=0.03)


@pytest.mark.parametrize("memory", [0.9, 0.5])
@pytest.mark.parametrize("kind", [AxisGate, BlockGate])
def test_o_g5_an_input_at_rest(kind, memory, tmp_path):
    """O-G5: after q probes of an input at rest the drift is memory^q of what it was, and the step returns to a whole
    one."""
    gate = gated(tmp_path, kind, tau=0.05, memory=memory, start="closed").gate.gate
    assert gate.part(1, 0) == 0.0
    for step in range(2):
        probe(gate, step, inputs(step))
    first, parts = gate.told(1, 0)["drift"], [gate.part(1, 2)]
    for q in range(1, 400):
        probe(gate, q, inputs(1))
        if q < 20:
            assert gate.told(1, 0)["drift"] == pytest.approx(first * memory**q, rel=1e-5)
        parts.append(gate.part(1, q))
    assert parts == sorted(parts) and parts[0] < 0.5 and parts[-1] == 1.0


@pytest.mark.parametrize("kind", [AxisGate, BlockGate])
def test_where_a_run_starts_open_drift_begins_with_none(kind, tmp_path):
    gate = gated(tmp_path, kind, tau=0.05, memory=0.75).gate.gate
    other = gated(tmp_path, kind, tau=0.05, memory=0.75, start="closed").gate.gate
    for found in (gate, other):
        probe(found, 0, inputs(0))
        assert found.part(1, 0) == (1.0 if found is gate else 0.0)
        probe(found, 5, inputs(1))
    assert gate.told(1, 0)["drift"] == pytest.approx(0.25 * other.told(1, 0)["drift"])


def test_g2_by_the_equation(tmp_path):
    gate = gated(tmp_path, BlockGate, tau=0.5, memory=0.0).gate.gate
    probe(gate, 0, inputs())
    probe(gate, 5, 1.25 * inputs())
    assert gate.part(1, 5) == pytest.approx(1 / (1 + 0.25 / 0.5)) and gate.part(2, 5) == 1.0
    assert gate.columns(1) is None and "axes" not in gate.told(1, 0)


def test_g4_starts_a_block_when_its_input_has_come_to_rest(tmp_path):
    gate = gated(tmp_path, TriggeredGate, tau=0.1, memory=0.0, ramp=0.8, train_for=2.0, num_steps=5).gate.gate
    probe(gate, 0, inputs())
    assert gate.part(1, 0) == 0.0  # nothing is known
    probe(gate, 3, 1.5 * inputs())
    assert gate.part(1, 3) == 0.0
    probe(gate, 6, 1.5 * inputs())
    probe(gate, 9, 3.0 * inputs())  # it starts once
    assert [gate.part(1, step) for step in range(6, 18)] == [0.25, 0.5, 0.75] + [1.0] * 7 + [0.0] * 2
    assert [gate.part(0, step) for step in (0, 3, 9, 10)] == [0.25, 1.0, 1.0, 0.0]


def test_a_gate_without_any_movement_leaves_the_step_alone(tmp_path):
    twins = gated(tmp_path, AxisGate, tau=1e30)
    probe(twins.gate.gate, 0, inputs(0))
    probe(twins.gate.gate, 1, inputs(1))
    assert twins.gate.gate.columns(1) is None and twins.gate.gate.part(1, 1) == 1.0
    for step in range(3):
        twins.step(step)
    assert all(torch.equal(a, b) for a, b in zip(twins.weights(1), twins.weights(1, gated=False), strict=True))


@pytest.mark.parametrize("kind", [AxisGate, BlockGate, TriggeredGate])
def test_what_a_gate_goes_by_is_put_back(kind, tmp_path):
    """The stepper's state has it beside the optimizer's, and both go on alike."""
    mine, other = (gated(tmp_path, kind, tau=2.0) for _ in range(2))
    for step in range(3):
        probe(mine.gate.gate, step, inputs(step))
        mine.step(step)
    assert mine.gate.version(1) == 3 and mine.gate.told(1)["gate"] > 0.0
    state = {name: v.clone() if isinstance(v, torch.Tensor) else v for name, v in mine.gate.capture(1).items()}
    other.gate.restore(1, state)
    assert {"gate/last", "gate/drift", "0/exp_avg"} <= set(state)
    for twins in (mine, other):
        twins.gate.gate.begin(0)
        probe(twins.gate.gate, 3, inputs(3))
    assert other.gate.told(1) == mine.gate.told(1) and other.gate.gate.part(1, 4) == mine.gate.gate.part(1, 4)
    assert (other.gate.gate.columns(1) is None) == (mine.gate.gate.columns(1) is None) == (kind is not AxisGate)
    mine.gate.gate.begin(1)  # sums are those of an epoch
    assert "gate" not in mine.gate.gate.told(1, 1)


def test_each_form_has_its_gate(tmp_path):
    def found(mode, **gate):
        changes = {"schedule": {"mode": mode}, "gate": {"delay": 0.5, "probe_every": 2, **gate}}
        resolved = resolve(Config.from_dict(merged(TINY, changes)), tmp_path)
        return type(gate_of(resolved, {}))

    kinds = {"G1": AxisGate, "G2": BlockGate, "G3": WaveGate, "G4": TriggeredGate}
    assert {form: found("gated", form=form) for form in kinds} == kinds
    assert found("parallel", form="G1") is type(None)
