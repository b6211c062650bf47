"""Blocks that have come to rest: by their outputs at the probe, and for good."""

import pytest
import torch
from tests.unit.engine.test_gated_stepper import Twins

from pipeline.config.gate import GateConfig
from pipeline.engine.gates import BlockGate, TriggeredGate
from pipeline.engine.rest import Rest

OUT = torch.ones(8, 12)


def twins_of(folder, kind=BlockGate, **config):
    return Twins(folder, {"name": "adam"}, gate=lambda rules: kind(GateConfig(**config), rules, 5))


def shown(rest, *scales, start=0):
    """The outputs of block 1 at one probe after another."""
    for n, scale in enumerate(scales):
        rest.observe(start + 5 * n, 1, scale * OUT)


@pytest.fixture
def rest(tmp_path):
    gate = GateConfig(form="G2", rest=0.1, memory=0.5)
    return Rest(gate, twins_of(tmp_path, tau=1.0).gated)


def test_a_block_rests_when_its_output_has_moved_less_than_that(rest):
    rest.taken(1, 1.0)
    shown(rest, 1.0, 2.0, 2.0, 2.0)  # drift: 1, .5, .25
    assert 1 not in rest and rest.since(1) is None
    shown(rest, 2.0, start=20)  # .125
    assert 1 not in rest
    shown(rest, 2.0, start=25)
    assert 1 in rest and rest.since(1) == 25 and 0 not in rest
    shown(rest, 9.0, 99.0, start=30)  # for good
    assert rest.since(1) == 25


def test_a_block_that_has_not_learned_does_not_come_to_rest(rest):
    shown(rest, 1.0, 1.0, 1.0)
    rest.taken(1, 0.0)
    shown(rest, 1.0, start=15)
    assert 1 not in rest
    rest.taken(1, 0.5)
    shown(rest, 1.0, start=20)  # the first one that counts
    assert 1 not in rest
    shown(rest, 1.0, start=25)
    assert rest.since(1) == 25


def test_an_output_that_is_not_finite_is_left_out(rest):
    rest.taken(1, 1.0)
    shown(rest, 1.0, float("nan"), 1.0)
    assert rest.since(1) == 10


def test_what_is_kept_goes_on_where_it_was(rest, tmp_path):
    rest.taken(1, 1.0)
    shown(rest, 1.0, 1.2)
    versions = [rest.version(1)]
    other = Rest(GateConfig(form="G2", rest=0.1, memory=0.5), twins_of(tmp_path, tau=1.0).gated)
    other.restore(1, rest.capture(1), torch.device("cpu"))
    for one in (rest, other):
        shown(one, 1.2, start=10)
        assert 1 not in one
    versions.append(rest.version(1))
    for one in (rest, other):
        shown(one, 1.2, start=15)
        assert one.since(1) == 15
    versions.append(rest.version(1))
    rest.taken(1, 0.0)  # the epoch's mean part changes
    versions.append(rest.version(1))
    assert versions == sorted(set(versions))
    again = Rest(GateConfig(form="G2", rest=0.1), twins_of(tmp_path, tau=1.0).gated)
    again.restore(1, rest.capture(1), torch.device("cpu"))
    assert again.since(1) == 15 and "rest_last" not in rest.capture(1)


@pytest.mark.parametrize("kind", [BlockGate, TriggeredGate])
def test_nothing_of_a_block_at_rest_moves_and_it_runs_forward_in_evaluation_mode(kind, tmp_path):
    twins = twins_of(tmp_path, kind, form="G2" if kind is BlockGate else "G4", rest=0.1, tau=1e9, memory=0.0)
    gate = twins.gate.gate
    for step in (0, 1):
        gate.observe(step, 1, OUT)
    twins.step(1)
    before = twins.weights(1)
    for step in (2, 3):
        gate.observe_output(step, 1, OUT)
    assert gate.rests(1) and not gate.rests(0)
    for p in twins.gated[1].parameters():
        p.grad = torch.ones_like(p)
    twins.gate.step(4)
    assert all(torch.equal(a, b) for a, b in zip(before, twins.weights(1), strict=True))
    gate.begin(0)
    assert not twins.gated[1].training
    assert twins.gate.told(1)["rests_since"] == 3 and twins.gate.told(1)["gate"] == 0.5  # one of two steps
    assert "rests_since" not in twins.gate.told(0)
