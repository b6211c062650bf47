"""A run that leaves the finite numbers says so: under every rule and mode, at one place, wherever the blocks are."""

import json

import pytest
from tests.support.runs import run

from pipeline import registry
from pipeline.errors import NonFiniteError
from pipeline.schedules.modes import MODES
from workers import worker

PLAIN = {"norm": "none", "activation": "tanh", "dropout": 0.0}
HALF = {"boundary": "half", "init": "xavier"}
SAMPLED = {"activation": "bernoulli", "dropout": 0.0, "norm": "none"}
NETS = {
    "am_mem": {**PLAIN, "boundary": "half"}, "eqprop": PLAIN,
    "pc": PLAIN, "tp": PLAIN, "dtp": PLAIN, "ifa": PLAIN, "lra_fdbk": PLAIN, "lra_diff": {**PLAIN, **HALF},
    "lra_rnn": PLAIN,
    "reinforce": SAMPLED, "straight_through": SAMPLED, "sigmoid_adjusted": SAMPLED, "slope_annealing": SAMPLED,
}  # fmt: skip
RULES = registry.known("pipeline.rules")


def far_off(**changes):
    """A run whose first steps leave every scale."""
    optimizer = {"name": "sgd", "lr": 1e30, "weight_decay": 1e5, "milestones": []}
    return {"optimizer": optimizer, "train": {"epochs": 2}, **changes}


def always(monkeypatch):
    """Stages look at their losses after every step, and no longer at the end of the epoch alone."""
    monkeypatch.setattr(worker, "PROGRESS_EVERY_S", 0.0)


def end_of(folder, changes, stages):
    """The failure in ``result.json``, which is the error's."""
    with pytest.raises(NonFiniteError) as caught:
        run(folder, {**changes, "run": {"stages": stages}})
    table = json.loads((folder / "result.json").read_text())
    assert table["status"] == "failed" and table["error"] == str(caught.value)
    found = {key: table[key] for key in ("block", "epoch", "step", "since", "what", "name", "value", "last_good")}
    assert found == caught.value.row
    assert f"block {found['block']}" in table["error"] and f"{found['step']}" in table["error"]
    return found


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_stops_at_the_same_block_and_step_on_any_number_of_stages(tmp_path, monkeypatch, rule):
    changes = far_off(rule={"name": rule}, model=NETS.get(rule, {}))
    one = end_of(tmp_path / "one", changes, 1)
    assert one["epoch"] == 0 and one["step"] <= 14 and one["value"] in ("nan", "inf", "-inf")
    assert end_of(tmp_path / "two", changes, 2) == one
    always(monkeypatch)
    assert end_of(tmp_path / "all", changes, "blocks") == one


@pytest.mark.parametrize("mode", [mode.name for mode in MODES])
def test_every_mode_stops(tmp_path, mode):
    changes = far_off(schedule={"mode": mode}, gate={"delay": 0.0})
    one = end_of(tmp_path / "one", changes, 1)
    if mode not in ("backprop", "pipedream"):  # one stage by definition; another model on another partition
        assert end_of(tmp_path / "two", changes, 2) == one


@pytest.mark.parametrize("rule", ["dfa", "fa", "dtp", "lra_fdbk", "ifa"])
def test_late_feedback_stops_at_the_same_block_and_step(tmp_path, monkeypatch, rule):
    changes = far_off(rule={"name": rule}, model=NETS.get(rule, {}))
    changes["train"] = {"in_flight": 3, "epochs": 2}
    one = end_of(tmp_path / "one", changes, 1)
    assert end_of(tmp_path / "all", changes, "blocks") == one
    always(monkeypatch)
    assert end_of(tmp_path / "one-again", changes, 1) == end_of(tmp_path / "two", changes, 2) == one
