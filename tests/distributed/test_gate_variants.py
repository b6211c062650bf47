"""The gates that do more than take a part of a step: G1m, and blocks that come to rest. They learn the same wherever
the blocks are, too."""

from functools import cache

import pytest
import torch
from tests.distributed.test_gated_runs import (
    GATED,
    LOCAL,
    MEASURED,
    SETTINGS,
    TRANSPORTS,
    blocks_of,
    changes_of,
    learned,
    same,
    told,
)
from tests.distributed.test_resume import resumed_everywhere
from tests.support.products import rare, square
from tests.support.resumes import TINY
from tests.support.runs import merged, run

from pipeline.errors import ConfigError
from pipeline.schedules.gate_checks import gate_state_of

pytestmark = pytest.mark.distributed
PARALLEL = {"form": "G2", "tau": 1e30}
FORMS = {
    "G1m": {"form": "G1m", "tau": 0.05, **MEASURED},
    "rest": {**PARALLEL, "rest": 0.19, "memory": 0.5, **MEASURED},
    "rest G4": {"form": "G4", "tau": 0.17, "rest": 0.19, "memory": 0.5, **MEASURED},
    "rest G1m": {"form": "G1m", "tau": 0.05, "rest": 0.1, **MEASURED},
}  # fmt: skip


def changes(rule, form, **more):
    return changes_of(rule, "G1", **merged({"gate": FORMS[form]}, more))


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    return cache(lambda *case: learned(tmp_path_factory.mktemp("reference") / "run", changes(*case)))


PLACED = [(form, *placed) for form in FORMS for placed in zip([2, 3, "blocks"], TRANSPORTS, strict=True)]


@pytest.mark.parametrize(("rule", "placed"), square(LOCAL, PLACED))
def test_every_local_rule_on_any_number_of_stages_over_any_transport(rule, placed, reference, tmp_path):
    form, stages, transport = placed
    found = learned(tmp_path / "run", changes(rule, form, run={"stages": stages}, transport={"name": transport}))
    assert found == reference(rule, form)


@pytest.mark.parametrize("form", rare(FORMS, but=["G1m", "rest"]))
@pytest.mark.parametrize("name", rare(SETTINGS, but=["autocast", "parts"]))
def test_settings_of_a_stage_go_with_it(name, form, tmp_path):
    case = merged(changes("predsim", form), SETTINGS[name])
    one = learned(tmp_path / "one", case)
    assert learned(tmp_path / "three", merged(case, {"run": {"stages": 3}})) == one


@pytest.mark.parametrize("form", rare(FORMS, but=["G1m", "rest"]))
def test_taken_up_from_every_step(form, tmp_path):
    """With what the record says of the gate, too."""
    case = changes("pred", form, snapshot={"every_steps": 1})
    found, differing = resumed_everywhere(tmp_path, case, cuts=slice(1, None, 3))
    assert found >= 4 and differing == []


@pytest.mark.parametrize("rule", rare(LOCAL, but=["predsim"]))
def test_o_g1_g1m_with_parts_of_1_is_the_mode_parallel_bit_for_bit(rule, tmp_path):
    """O-G1: with every part at 1, a run gated by G1m is the mode parallel, bit for bit."""
    plain = learned(tmp_path / "plain", {"rule": {"name": rule}})
    gate = {"form": "G1m", "tau": 1e30, "probe_every": 2}
    assert learned(tmp_path / "g1m", {**GATED, "rule": {"name": rule}, "gate": gate, "run": {"stages": 2}}) == plain


def test_under_g1m_blocks_learn_from_something_else_than_under_g1(reference, tmp_path):
    axes = changes_of("predsim", "G1", gate=FORMS["G1m"] | {"form": "G1"})
    assert learned(tmp_path / "run", axes)[0] != reference("predsim", "G1m")[0]


def ran(out, **more):
    """A run in which blocks come to rest. Returns its epochs as they are told, and the weights of its blocks."""
    run(out, changes("predsim", "rest", **more), base=TINY)
    return told(out), blocks_of(out)


def test_a_block_at_rest_learns_no_more(tmp_path):
    epochs, weights = ran(tmp_path / "run")
    since = {k: block["rests_since"] for k, block in epochs[-1].items() if "rests_since" in block}
    assert since and set(since.values()) <= {6, 9}  # at a probe of the second epoch of five steps, not at its start
    _, before = ran(tmp_path / "two", train={"epochs": 2})
    for k in range(4):
        assert same(weights[k], before[k]) == (k in since)
        assert all(torch.equal(weights[k][name], before[k][name]) for name in weights[k]) == (k in since)
        last = epochs[2][k]  # in which nothing is learned, so that no loss is known
        assert (last["gate"], last["train_loss"] is None) == ((0.0, True) if k in since else (1.0, False))
    for k, step in since.items():
        assert epochs[1][k]["gate"] == pytest.approx((step - 5) / 5)


def test_a_run_goes_on_whose_blocks_are_all_at_rest(tmp_path, caplog):
    epochs, _ = ran(tmp_path / "run", gate={"rest": 1e30})
    assert [block["rests_since"] for block in epochs[-1].values()] == [6] * 4  # seen after step 3, and again
    assert [block["gate"] for block in epochs[2].values()] == [0.0] * 4
    assert len({block["test_loss"] for epoch in epochs[1:] for block in epoch.values()}) == 4
    assert not [record for record in caplog.records if "the wave" in record.getMessage()]


def test_a_wave_whose_blocks_rest_has_reached_them(tmp_path, caplog):
    more = {"gate": {"rest": 1e30, "tau": 1e30}, "run": {"stages": 2}}
    table = run(tmp_path / "run", changes("predsim", "rest G4", **more), base=TINY)
    assert [block["gate"] for block in table["blocks"]] == [0.0] * 4
    assert [block["rests_since"] for block in table["blocks"]] == [6, 9, 9, 9]  # the others start at step 3
    assert not [record for record in caplog.records if "the wave" in record.getMessage()]


@pytest.mark.parametrize(("gate", "given"), [
    (FORMS["G1m"], 'gate.form = "G1m"'), (FORMS["rest"], "gate.rest = 0.19"),
], ids=["G1m", "rest"])  # fmt: skip
@pytest.mark.parametrize("rule", ["dfa", "backprop", "dni"])
def test_feedback_is_refused(rule, gate, given, tmp_path):
    with pytest.raises(ConfigError, match=f"where no feedback passes it .given: {given} with the rule {rule}, .* pred"):
        run(tmp_path / "run", changes_of(rule, "G1", gate=gate), base=TINY)


def test_a_wave_whose_steps_grow_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"steps are still small .* \(given: gate.rest = 0.19 with gate.ramp = 0.5"):
        run(tmp_path / "run", changes("pred", "rest G4", gate={"ramp": 0.5}), base=TINY)


def test_what_a_gate_keeps_of_outputs_is_told(tmp_path):
    table = merged(GATED, {"gate": FORMS["rest"]})
    assert gate_state_of(table) == "G2, 20 samples, outputs"
    assert gate_state_of(merged(table, {"gate": {"rest": 0.0}})) == "G2, 20 samples"
