"""Angles between a rule's gradients and backpropagation's."""

import json
import math

import pytest
import torch
from tests.support.runs import SMALL, merged, run

from pipeline.config import Config
from pipeline.measure.angles import angle_deg, angles
from pipeline.measure.whole_network import WholeNetwork
from pipeline.resolve import build_rule, resolve

TANH = {"name": "mlp", "depth": 3, "width": 16, "activation": "tanh", "norm": "none"}


def resolved_of(tmp_path, **changes):
    return resolve(Config.from_dict(merged(SMALL, changes)), tmp_path)


def network_of(resolved, states=None):
    return WholeNetwork(resolved, 1, states, torch.device("cpu"))


def initial_states(resolved):
    pairs = zip(resolved.blueprints, resolved.specs, strict=True)
    return [build_rule(resolved.config, blueprint, spec).state_dict() for blueprint, spec in pairs]


def batch(num_samples=40):
    return torch.rand(num_samples, 1, 8, 8), torch.randint(10, (num_samples,))


@pytest.mark.parametrize("degrees", [0.0, 1e-6, 0.5, 45.0, 90.0, 179.99, 180.0])
def test_an_angle_is_exact_whatever_the_lengths(degrees):
    turned = torch.tensor([math.cos(math.radians(degrees)), math.sin(math.radians(degrees))], dtype=torch.float64)
    assert angle_deg(torch.tensor([3.0, 0.0], dtype=torch.float64), 1e-9 * turned) == pytest.approx(degrees, abs=1e-9)


@pytest.mark.parametrize("other", [[0.0, 0.0], [math.nan, 1.0], [math.inf, 1.0]])
def test_what_has_no_direction_has_no_angle(other):
    vectors = torch.ones(2, dtype=torch.float64), torch.tensor(other, dtype=torch.float64)
    assert angle_deg(*vectors) is None and angle_deg(*reversed(vectors)) is None
    assert angle_deg(torch.zeros(0), torch.zeros(0)) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"schedule": {"mode": "backprop"}}, {"schedule": {"mode": "backprop"}, "run": {"autocast": "bfloat16"}},
        {"rule": {"name": "backprop"}, "model": {"name": "vgg8b", "width": 0.0625}, "run": {"channels_last": True}},
    ],
    ids=["mlp", "bfloat16", "vgg8b"],
)  # fmt: skip
def test_backprop_to_itself_is_zero_in_every_block(tmp_path, changes):
    """With dropout and batch normalisation: both have the same masks and statistics."""
    small = {"dataset": {"name": "noise", "shape": [3, 16, 16], "num_train": 40}} if "model" in changes else {}
    resolved = resolved_of(tmp_path, **changes, **small)
    x = torch.rand(20, *resolved.data.input_shape)
    found = angles(network_of(resolved), x, torch.randint(10, (20,)))
    # Maps that lie channels last are summed in another order; in bfloat16 the rule's errors are rounded, too.
    assert found.blocks == [pytest.approx(0.0, abs=1.0 if "run" in changes else 1e-3)] * resolved.num_blocks
    assert found.whole == pytest.approx(0.0, abs=1.0 if "run" in changes else 1e-3)


def test_states_that_training_keeps_are_settled_for_longer_where_none_was_kept(tmp_path):
    """Otherwise the angles would be those of states that have hardly moved from 0."""
    found = []
    for rule in ({"persistent": True, "free_rounds": 3}, {"free_rounds": 15}):
        changes = {"rule": {"name": "eqprop", **rule}, "model": {**TANH, "dropout": 0.0}}
        torch.manual_seed(0)
        found.append(angles(network_of(resolved_of(tmp_path, **changes)), *batch()))
    assert found[0] == found[1] and None not in found[0].blocks


def test_backprop_to_itself_is_zero_after_every_epoch(tmp_path):
    run(tmp_path / "run", {"schedule": {"mode": "gpipe"}, "train": {"microbatches": 2}, "measure": {"every": 1}})
    rows = json.loads((tmp_path / "run" / "measurements.json").read_text())["epochs"]
    assert [row["epoch"] for row in rows] == [0, 1, 2]
    assert all(b["angle_deg"] == pytest.approx(0.0, abs=1e-3) for row in rows for b in row["blocks"])


def test_feedback_alignment_through_the_weights_themselves_is_backprop(tmp_path):
    resolved = resolved_of(tmp_path, rule={"name": "fa"}, model=TANH)
    states = initial_states(resolved)
    apart = angles(network_of(resolved, states), *batch())
    for state in states:
        if "matrix" in state:
            state["matrix"].copy_(next(v for k, v in state.items() if k.startswith("block") and k.endswith("weight")))
    assert angles(network_of(resolved, states), *batch()).blocks == [pytest.approx(0.0, abs=1e-3)] * 4
    assert all(45 < angle < 135 for angle in apart.blocks[:-1]) and apart.blocks[-1] == pytest.approx(0.0, abs=1e-3)


def test_a_local_rule_points_elsewhere_but_not_uphill(tmp_path):
    """Once its decoders have learned something; they start at 0 and say nothing."""
    changes = {
        "model": {**TANH, "dropout": 0.0}, "dataset": {"name": "digits", "crop_padding": 0},
        "optimizer": {"lr": 0.01, "milestones": []}, "train": {"epochs": 3, "batch_size": 100}, "measure": {"every": 3},
    }  # fmt: skip
    run(tmp_path / "run", changes)
    first, last = json.loads((tmp_path / "run" / "measurements.json").read_text())["epochs"]
    assert [b["angle_deg"] for b in first["blocks"][:-1]] == [None] * 3
    *hidden, output = [b["angle_deg"] for b in last["blocks"]]
    assert all(10 < angle < 90 for angle in hidden) and output == pytest.approx(0.0, abs=1e-3)
    assert 0 < last["angle_deg"] < 90


def test_behind_a_unit_without_a_derivative_there_is_no_angle(tmp_path):
    resolved = resolved_of(tmp_path, rule={"name": "dfa", "inject": "pre"}, model={**TANH, "activation": "sign"})
    found = angles(network_of(resolved), *batch())
    assert found.blocks[:-1] == [None] * 3 and found.blocks[-1] == pytest.approx(0.0, abs=1e-3)
    assert found.whole == pytest.approx(0.0, abs=1e-3)


@pytest.mark.parametrize("rule", ["tests.support.settling_rule", "tests.support.synthetic_gradients", "dfa", "sim"])
def test_every_topology_can_be_measured(tmp_path, rule):
    model = TANH if rule != "tests.support.settling_rule" else {**TANH, "width": 10}
    found = angles(network_of(resolved_of(tmp_path, rule={"name": rule}, model=model)), *batch())
    assert len(found.blocks) == 4 and all(angle is None or 0 <= angle <= 180 for angle in found.blocks)
    assert found.blocks[-1] is not None
