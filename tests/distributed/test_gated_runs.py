"""The mode gated: its limits, and that it learns the same wherever the blocks are."""

import dataclasses
import json
from functools import cache

import pytest
import torch
from tests.distributed.test_resume import OPTIMIZERS, RULES, resumed_everywhere
from tests.support.products import rare, square
from tests.support.resumes import TINY, cuts_of, written
from tests.support.runs import merged, run

from pipeline.config import Config
from pipeline.errors import ConfigError
from pipeline.records.snapshots import Manifest
from pipeline.records.weights import latest_weights, load_blocks
from workers.resume import open_origin
from workers.run import train

pytestmark = pytest.mark.distributed
LOCAL = [
    "linear_decoder", "pred", "sim", "predsim", "pred_bio", "sim_bio", "predsim_bio", "drtp", "aux",
]  # fmt: skip
GATED = {"schedule": {"mode": "gated"}}
WAVE = merged(GATED, {"gate": {"delay": 0.3, "ramp": 0.5, "train_for": 1.7}})
"""Of three epochs of five steps: blocks start and end inside epochs."""
MEASURED = {"probe_every": 3, "probe_samples": 20}
FORMS = {
    "G1": {"form": "G1", "tau": 0.05, **MEASURED}, "G2": {"form": "G2", "tau": 0.05, **MEASURED},
    "G3": WAVE["gate"], "G4": {"form": "G4", "tau": 0.17, "memory": 0.5, "ramp": 0.5, **MEASURED},
}  # fmt: skip
"""The probe passes before steps 0, 3, 6, 9 and 12, two of which begin no epoch, and is more than a batch of 12."""
TRANSPORTS = ["inline", "shared_memory", "process_group"]
PLACED = [(form, *placed) for form in FORMS for placed in zip([2, 3, "blocks"], TRANSPORTS, strict=True)]


def learned(out, changes):
    table = run(out, changes, base=TINY)
    return table["weights_sha256"], table["test"], [b["test_accuracy"] for b in table["blocks"]]


def told(out):
    """The rows of every block, of all epochs."""
    rows = [json.loads(line) for line in (out / "record.jsonl").read_text().splitlines()]
    epochs = sorted(row["epoch"] for row in rows if row["event"] == "epoch")
    return [{b["block"]: b for row in rows if row["event"] == "epoch" and row["epoch"] == e for b in row["blocks"]}
             for e in sorted(set(epochs))]  # fmt: skip


ADAM = json.dumps({"name": "adam", "lr": 0.01})


def changes_of(rule, form, optimizer=ADAM, **more):
    return merged({**GATED, "gate": FORMS[form], "rule": {"name": rule}, "optimizer": json.loads(optimizer)}, more)


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """What each rule learns by each gate under each optimizer on one stage in this process."""
    return cache(lambda *case: learned(tmp_path_factory.mktemp("reference") / "run", changes_of(*case)))


@pytest.mark.parametrize(("rule", "placed"), square(LOCAL, PLACED))
def test_every_local_rule_on_any_number_of_stages_over_any_transport(rule, placed, reference, tmp_path):
    form, stages, transport = placed
    changes = changes_of(rule, form, run={"stages": stages}, transport={"name": transport})
    assert learned(tmp_path / "run", changes) == reference(rule, form)


@pytest.mark.parametrize(("form", "transport"), square(FORMS, TRANSPORTS))
def test_every_gate_over_every_transport(form, transport, reference, tmp_path):
    changes = changes_of("predsim", form, run={"stages": 2}, transport={"name": transport, "depth": 1})
    assert learned(tmp_path / "run", changes) == reference("predsim", form)


CHOSEN = [{"name": "rprop"}, {"name": "sgd", "momentum": 0.9}]


@pytest.mark.parametrize("form", rare(FORMS, but=["G1"]))
@pytest.mark.parametrize("optimizer", rare(map(json.dumps, OPTIMIZERS), but=list(map(json.dumps, CHOSEN))))
def test_every_optimizer(optimizer, form, reference, tmp_path):
    optimizer = json.dumps({"lr": 0.01, **json.loads(optimizer)})
    found = learned(tmp_path / "run", changes_of("pred", form, optimizer, run={"stages": 3}))
    assert found == reference("pred", form, optimizer)


WITHOUT = ["pc", "eqprop", "ifa", "readout", "glob_sim"]
"""Their blocks settle, use what is published, or have several ways of feedback."""
FEEDBACK = [rule for rule in sorted(RULES) if rule not in (*LOCAL, *WITHOUT)]


@pytest.mark.parametrize("form", rare(["G1", "G2", "G4"], but=["G1"]))
@pytest.mark.parametrize("rule", rare(FEEDBACK, but=["dfa", "dni", "backprop"]))
def test_rules_with_late_feedback(rule, form, tmp_path):
    late = {**RULES[rule], "train": {"in_flight": 1 if rule == "am_mem" else 3}}
    changes = merged(late, {**GATED, "gate": FORMS[form]})
    one = learned(tmp_path / "one", changes)
    placed = {"run": {"stages": "blocks"}, "transport": {"name": "shared_memory"}}
    assert learned(tmp_path / "three", merged(changes, placed)) == one
    plain = learned(tmp_path / "plain", late)
    assert plain != one
    if form in WHOLE:
        whole = {"gate": {**FORMS[form], **WHOLE[form]}, "run": {"stages": 2}}
        assert learned(tmp_path / "whole", merged(changes, whole)) == plain


@pytest.mark.parametrize("changes", [{"train": {"microbatches": 2}}, {"snapshot": {"every_epochs": 1}, "train": {
    "in_flight": 3}}], ids=["parts", "taken up"])  # fmt: skip
def test_backpropagation_in_parts_and_taken_up(changes, tmp_path):
    changes = merged({**GATED, "gate": FORMS["G1"], "rule": {"name": "backprop"}}, changes)
    if "snapshot" in changes:
        assert resumed_everywhere(tmp_path, changes) == (2, [])
    else:
        one = learned(tmp_path / "one", changes)
        assert learned(tmp_path / "two", merged(changes, {"run": {"stages": 3}})) == one


def test_the_gates_differ(reference, tmp_path):
    plain = learned(tmp_path / "run", {"rule": {"name": "predsim"}, "optimizer": json.loads(ADAM)})
    assert len({plain[0], *(reference("predsim", form)[0] for form in FORMS)}) == 5


WHOLE = {"G1": {"tau": 1e30}, "G2": {"tau": 1e30}, "G3": {"delay": 0.0}}


@pytest.mark.parametrize("rule", rare(LOCAL, but=["predsim"]))
def test_o_g1_gates_of_1_are_the_mode_parallel_bit_for_bit(rule, tmp_path):
    """O-G1: with tau so large that every part is 1, a gated run is the mode parallel, bit for bit.

    With the probe on its way: it leaves nothing behind.
    """
    changes = {"rule": {"name": rule}}
    plain = learned(tmp_path / "plain", changes)
    for form, gate in WHOLE.items():
        gate = {"form": form, "probe_every": 2, **gate}
        assert learned(tmp_path / form, merged(changes, {**GATED, "gate": gate, "run": {"stages": 2}})) == plain


def blocks_of(out):
    return load_blocks(latest_weights(out))


STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


def same(mine, other, within=0.0):
    """The weights of a block, not its running statistics."""
    pairs = [(mine[key], other[key]) for key in mine if not key.endswith(STATISTICS)]
    return all(torch.allclose(a, b, rtol=0.0, atol=within) for a, b in pairs)


@pytest.mark.parametrize("form", rare(["G1", "G2", "G4"], but=["G1"]))
def test_o_g1_gates_of_0_let_a_block_learn_when_the_blocks_below_it_have_come_to_rest(form, tmp_path):
    """O-G1: at the other end, with tau near 0, a block learns only when the blocks below it have come to rest.

    tau to 0: only the lowest block that learns takes a step, and that one all of it.
    """
    gate = {"form": form, "tau": 1e-30, "start": "closed", "probe_every": 2}
    base = {"rule": {"name": "pred"}, "train": {"freeze": "0"}}
    run(tmp_path / "plain", base, base=TINY)
    run(tmp_path / "gated", merged(base, {**GATED, "gate": gate, "train": {"epochs": 3}}), base=TINY)
    run(tmp_path / "none", merged(base, {"train": {"freeze": "0-2", "epochs": 1}}), base=TINY)
    plain, gated, none = (blocks_of(tmp_path / name) for name in ("plain", "gated", "none"))
    gates = [[epoch[k].get("gate") for k in (1, 2, 3)] for epoch in told(tmp_path / "gated")]
    assert [epoch[0] for epoch in gates] == [3 / 5, 1.0, 1.0]  # the second probe opens it
    assert all(epoch[1] < 1e-20 and epoch[2] < 1e-20 for epoch in gates)
    assert same(gated[2], none[2], within=1e-20)  # what is 0 may have moved by that
    assert not same(gated[1], none[1]) and not same(plain[2], none[2]) and same(gated[0], none[0])


@pytest.mark.parametrize("form", rare(["G1", "G2"], but=["G2"]))
def test_o_g5_a_block_above_one_that_is_frozen_learns_as_it_would(form, tmp_path):
    """O-G5: a block above a frozen one learns as it would without a gate, bit for bit."""
    base = {"rule": {"name": "pred"}, "train": {"freeze": "0"}}
    run(tmp_path / "plain", base, base=TINY)
    gate = {"form": form, "tau": 1e-30, "probe_every": 2}
    run(tmp_path / "gated", merged(base, {**GATED, "gate": gate, "run": {"stages": 3}}), base=TINY)
    plain, gated = (blocks_of(tmp_path / name) for name in ("plain", "gated"))
    assert [same(a, b) for a, b in zip(plain, gated, strict=True)] == [True, True, False, False]


@pytest.mark.parametrize("rule", rare(LOCAL, but=["predsim"]))
def test_a_delay_as_long_as_the_training_is_the_sequential_mode_bit_for_bit(rule, tmp_path):
    """With a rate that does not change: there it follows each block's own epochs, here the run's."""
    base = {"rule": {"name": rule}, "optimizer": {"milestones": []}}
    turns = {"schedule": {"mode": "sequential", "patience": 9, "tolerance": 0.0}, "train": {"epochs": 2}}
    one_by_one = run(tmp_path / "turns", merged(base, turns), base=TINY)
    wave = merged(GATED, {"gate": {"delay": 2.0, "train_for": 2.0}, "train": {"epochs": 8}})
    found = run(tmp_path / "wave", merged(base, merged(wave, {"run": {"stages": 2}})), base=TINY)
    assert found["weights_sha256"] == one_by_one["weights_sha256"] and found["test"] == one_by_one["test"]
    same = ("epochs_trained", "frozen_at_epoch")
    assert [[b[k] for k in same] for b in found["blocks"]] == [[b[k] for k in same] for b in one_by_one["blocks"]]


def test_what_is_written_down(tmp_path):
    run(tmp_path / "run", merged(WAVE, {"run": {"stages": 2}}), base=TINY)
    epochs = told(tmp_path / "run")
    # Starts after 0, 1.5, 3 and 4.5 steps of 5, ramps of 2.5, and the last step of each within 8.5.
    gates = [[epoch[k].get("gate") for k in range(4)] for epoch in epochs]
    expected = [
        [(0.4 + 0.8 + 3) / 5, (0.2 + 0.6 + 1 + 1) / 5, (0.4 + 0.8) / 5, 0.2 / 5],
        [3 / 5, 1.0, 1.0, (0.6 + 4) / 5], [None, None, 1 / 5, 3 / 5],
    ]  # fmt: skip
    for found, wanted in zip(gates, expected, strict=True):
        assert found == [None if w is None else pytest.approx(w) for w in wanted]
    assert [epochs[2][k]["trained"] for k in range(4)] == [False, False, True, True]


def test_modes_without_a_gate_tell_of_none(tmp_path):
    result = run(tmp_path / "run", base=TINY)
    assert not any("gate" in block for epoch in told(tmp_path / "run") for block in epoch.values())
    assert not any("gate" in block for block in result["blocks"])


def test_drift_is_written_down(tmp_path):
    result = run(tmp_path / "run", changes_of("predsim", "G1", run={"stages": 2}), base=TINY)
    epochs = told(tmp_path / "run")
    keys = ("gate", "drift", "axes")
    assert [[b.get(key) for key in keys] for b in result["blocks"]] == [
        [epochs[-1][k].get(key) for key in keys] for k in range(4)
    ]
    for epoch in epochs:
        assert (epoch[0]["gate"], epoch[0]["drift"]) == (1.0, 0.0) and "axes" not in epoch[0]
        for k in (1, 2, 3):
            least, median, most = epoch[k]["axes"]
            assert 0.0 < least < median < most <= 1.0 and epoch[k]["drift"] > 0.0 and 0.0 < epoch[k]["gate"] < 1.0


FIRST = {"G1": 2, "G2": 1, "G3": 0, "G4": 0}
"""The first cut, and every third one: under G1 those in front of a probe."""


@pytest.mark.parametrize("form", rare(FORMS, but=["G1", "G4"]))
@pytest.mark.parametrize("rule", rare(["predsim", "linear_decoder"], but=["predsim"]))
def test_taken_up_from_every_step(rule, form, tmp_path):
    changes = {**GATED, "gate": FORMS[form], "rule": {"name": rule}, "snapshot": {"every_steps": 1}}
    found, differing = resumed_everywhere(tmp_path, changes, cuts=slice(FIRST[form], None, 3))
    assert found in (4, 5) and differing == []


@pytest.mark.parametrize("form", rare(["G2", "G4"], but=["G2"]))
def test_maps_in_another_layout_are_taken_up_from_every_step(form, tmp_path):
    """A snapshot keeps numbers and no layout in memory, and sums go by it."""
    changes = {**GATED, "gate": {**FORMS[form], "probe_every": 1}, "snapshot": {"every_steps": 1}, **SETTINGS["maps"]}
    found, differing = resumed_everywhere(tmp_path, changes, cuts=slice(2, None))
    assert found > 1 and differing == []


SETTINGS = {
    "autocast": {"run": {"autocast": "bfloat16"}}, "stage": {"run": {"learn_after": "stage"}},
    "wire": {"transport": {"wire": "int8"}}, "parts": {"rule": {"name": "pred"}, "train": {"microbatches": 2}},
    "frozen": {"train": {"freeze": "1"}},
    "own": {"optimizer": {"blocks": {"0-1": {"name": "sgd", "lr": 0.1}}}},
    "mixed": {"rule": {"name": "pred", "blocks": {"1": {"name": "sim"}}}},
    "skip": {"train": {"nonfinite": "skip"}}, "autograd": {"run": {"closed_form": False}},
    "maps": {"model": {"name": "tests.support.conv_net.small"}, "dataset": {"name": "digits", "crop_padding": 1},
             "train": {"batch_size": 480, "epochs": 2}, "run": {"channels_last": True}},
}  # fmt: skip


@pytest.mark.parametrize("form", rare(FORMS, but=["G1"]))
@pytest.mark.parametrize("name", rare(SETTINGS, but=["wire", "maps", "parts"]))
def test_settings_of_a_stage_go_with_it(name, form, tmp_path):
    changes = merged({**GATED, "gate": FORMS[form]}, SETTINGS[name])
    if name == "maps":
        changes["gate"] = {**FORMS[form], "train_for": 0.0}
    one = learned(tmp_path / "one", changes)
    assert learned(tmp_path / "three", merged(changes, {"run": {"stages": 3}})) == one


@pytest.mark.parametrize("form", rare(["G1", "G2", "G4"], but=["G2"]))
def test_an_epoch_is_chosen_by_a_validation_set(form, tmp_path):
    changes = changes_of("pred", form, dataset={"validation": 0.2})
    one = run(tmp_path / "one", changes, base=TINY)
    two = run(tmp_path / "two", merged(changes, {"run": {"stages": 2}}), base=TINY)
    assert one["selection"]["by"] == "validation accuracy" and one["selection"] == two["selection"]
    assert one["weights_sha256"] == two["weights_sha256"]


def test_blocks_that_a_wave_has_not_reached_are_named(tmp_path, caplog):
    table = run(tmp_path / "run", changes_of("pred", "G4", gate={"tau": 1e-9}), base=TINY)
    assert [block["gate"] for block in table["blocks"]] == [1.0, 0.0, 0.0, 0.0]
    (said,) = [record.getMessage() for record in caplog.records if "the wave has not" in record.getMessage()]
    assert "have not learned: 1, 2, 3, whose inputs still move (drift: " in said
    drifts = [block["drifts"] for block in table["blocks"]]
    assert all(low <= middle <= high and low > 0.0 for low, middle, high in drifts[1:]) and drifts[0] == [0.0] * 3
    of_all = ", ".join(" ".join(f"{drift:.2g}" for drift in three) for three in drifts[1:])
    assert f"; least, median and most after the epochs: {of_all}; gate.tau = 1e-09). Raise gate.tau above" in said


def test_what_is_sent_for_probes_is_not_of_a_step(tmp_path):
    placed = {"run": {"stages": 2}, "transport": {"name": "shared_memory"}}
    gated = run(tmp_path / "gated", changes_of("pred", "G2", **placed), base=TINY)["stages"][0]
    plain = run(tmp_path / "plain", merged({"rule": {"name": "pred"}}, placed), base=TINY)["stages"][0]
    assert gated["bytes_per_step"] == plain["bytes_per_step"] > 0
    assert gated["bytes_sent"] - plain["bytes_sent"] == 5 * 20 * (12 * 4 + 8)  # five probes of 20 samples


@pytest.mark.parametrize("more", [{"tau": 1e9}, {"tau": 1e9, "train_for": 1.0}], ids=["reached", "at its end"])
def test_nothing_is_said_of_blocks_that_have_learned(tmp_path, caplog, more):
    run(tmp_path / "run", changes_of("pred", "G4", gate=more), base=TINY)
    assert not [record for record in caplog.records if "the wave" in record.getMessage()]


@pytest.mark.parametrize("more", [
    {"rule": {"name": "dfa"}}, {"dataset": {"validation": 0.2}},
], ids=["no decoders", "validation"])  # fmt: skip
def test_every_block_has_its_gate_in_the_result(tmp_path, more):
    table = run(tmp_path / "run", merged(changes_of("pred", "G1"), more), base=TINY)
    assert all(0.0 < block["gate"] <= 1.0 for block in table["blocks"])


@pytest.mark.parametrize("form", ["G1", "G2", "G4"])
def test_a_probe_that_is_not_finite_is_left_out(tmp_path, form):
    """Its samples are those of the first steps, which are skipped."""
    bad = {"dataset": {"name": "tests.support.poison", "value": "nan", "bad": [3]}, "train": {"nonfinite": "skip"}}
    changes = merged(changes_of("pred", form, gate={"probe_every": 1, "probe_samples": 60}), bad)
    table = run(tmp_path / "run", changes, base=merged(TINY, {"model": {"norm": "none"}}))
    assert all("drift" not in block or block["drift"] == 0.0 for block in table["blocks"])
    assert [block["gate"] for block in table["blocks"]] == [1.0] + 3 * [0.0 if form == "G4" else 1.0]


@pytest.mark.parametrize(("was", "now", "text"), [
    ({"form": "G1"}, {"probe_samples": 12}, "the gate keeps: G1, 20 samples in the run, now G1, 12 samples"),
    ({"form": "G1"}, {"form": "G4"}, "the gate keeps: G1, 20 samples in the run, now G4, 20 samples"),
    ({"form": "G2"}, {"form": "G3"}, "the gate keeps: G2, 20 samples in the run, now nothing"),
])  # fmt: skip
def test_a_run_does_not_go_on_with_what_another_gate_keeps(tmp_path, was, now, text):
    gate = {"delay": 0.2, **MEASURED, **was}
    written(tmp_path / "run", {**GATED, "gate": gate, "rule": {"name": "pred"}, "snapshot": {"every_epochs": 1}})
    origin = open_origin(tmp_path / "run", allow_changes=True)
    folder = cuts_of(tmp_path / "run")[0]
    origin = dataclasses.replace(origin, found=(folder, Manifest.read(folder)))
    changed = merged(TINY, {**GATED, "gate": {**gate, **now}, "rule": {"name": "pred"}})
    with pytest.raises(ConfigError, match=text):
        train(Config.from_dict(changed), out=tmp_path / "other", data_root=tmp_path, origin=origin)


@pytest.mark.parametrize("form", ["G3", "G4"])
def test_a_wave_shorter_than_a_step_is_refused(tmp_path, form):
    changes = {**GATED, "gate": {"form": form, "delay": 0.0, "train_for": 0.1, **MEASURED}}
    with pytest.raises(ConfigError, match=r"no block would take a step \(given: gate.train_for = 0.1 epochs of 5"):
        run(tmp_path / "run", changes, base=TINY)
