"""Wire formats: what is rounded belongs to the model, so the weights are the same wherever the blocks are."""

import dataclasses
import json
from functools import cache

import pytest
import torch
from tests.distributed.test_resume import RULES as EVERY_RULE
from tests.support.products import rare, square
from tests.support.resumes import TINY, cuts_of, resumed, written
from tests.support.runs import NUM_STEPS, SMALL, merged, run, sha

from pipeline.config import Config
from pipeline.errors import ConfigError, NonFiniteError
from pipeline.measure.epoch import Measurement
from pipeline.records.weights import latest_weights, load_blocks
from pipeline.resolve import resolve
from workers.resume import Origin

pytestmark = pytest.mark.distributed
WIRES = ["bfloat16", "float16", "int8"]
RULES = {  # one of every topology, and one whose feedback is rounded, too
    "predsim": {}, "dfa": {}, "backprop": {}, "fa": {}, "frsf": {},
    "ifa": {"norm": "none", "activation": "tanh", "dropout": 0.0, "width": 12},
}  # fmt: skip
TRANSPORTS = ["shared_memory", "process_group", "inline"]


def changes_of(rule, wire, stages=1, transport="inline", **more):
    return merged({
        "rule": {"name": rule}, "model": RULES.get(rule, {}), "run": {"stages": stages},
        "transport": {"name": transport, "wire": wire},
    }, more)  # fmt: skip


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """The weights and scores of each rule and wire from one stage in this process."""
    return cache(lambda rule, wire: learned(tmp_path_factory.mktemp(rule) / "run", changes_of(rule, wire)))


def learned(out, changes, base=SMALL):
    table = run(out, changes, base=base)
    return table["weights_sha256"], table["test"], [b["test_accuracy"] for b in table["blocks"]]


@pytest.mark.parametrize(("rule", "wire", "placed"), square(RULES, WIRES, list(zip([2, 3, "blocks"], TRANSPORTS))))
def test_any_number_of_stages_over_any_transport(tmp_path, reference, rule, wire, placed):
    assert learned(tmp_path / "run", changes_of(rule, wire, *placed)) == reference(rule, wire)
    assert reference(rule, wire)[0] != reference(rule, "same")[0]


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("wire", [*WIRES, "same"])
def test_every_wire_over_every_transport(tmp_path, reference, wire, transport):
    assert learned(tmp_path / "run", changes_of("predsim", wire, 2, transport)) == reference("predsim", wire)


OTHERS = ["sim", "dtp", "ifa", "sdfa", "usf", "dni", "pc", "eqprop", "am"]


@pytest.mark.parametrize("rule", rare(sorted(EVERY_RULE), but=OTHERS))
def test_every_rule_on_any_partition(tmp_path, rule):
    tables = []
    for stages in (1, 2, "blocks"):
        changes = merged(EVERY_RULE[rule], {"run": {"stages": stages}, "train": {"epochs": 1}})
        changes = merged(changes, {"transport": {"name": "inline", "wire": "int8"}})
        tables.append(run(tmp_path / str(stages), changes, base=TINY))
    assert len({table["weights_sha256"] for table in tables}) == 1


@pytest.mark.parametrize("rule", ["predsim", "frsf"])
def test_named_cuts_are_rounded_and_no_others_whether_a_link_is_there_or_not(tmp_path, reference, rule):
    found = set()
    for index, placed in enumerate([(1, "inline"), (2, "shared_memory"), ("blocks", "process_group")]):
        changes = merged(changes_of(rule, "int8", *placed), {"transport": {"wire_at": [2]}})
        found.add(sha(tmp_path / str(index), changes))
    every = sha(tmp_path / "every", merged(changes_of(rule, "int8"), {"transport": {"wire_at": [4, 2, 1, 3]}}))
    assert len(found) == 1 and every == reference(rule, "int8")[0]
    assert not found & {every, reference(rule, "same")[0]}


@pytest.mark.parametrize(("rule", "is_rounded"), [("frsf", True), ("backprop", False), ("dfa", False)])
def test_feedback_is_rounded_where_the_rule_says_so(tmp_path, monkeypatch, rule, is_rounded):
    """Told by the weights: without the rounding of feedback they are others, or the same."""
    changes = changes_of(rule, "int8", 2, "inline")
    usual = sha(tmp_path / "usual", changes)
    monkeypatch.setattr("pipeline.engine.wires._rounds_feedback", lambda stage: False)
    assert (sha(tmp_path / "exact", changes) != usual) is is_rounded


CONV = {
    "model": {"name": "tests.support.conv_net.small"}, "optimizer": {"name": "sgd", "lr": 0.01},
    "train": {"epochs": 1, "batch_size": 100},
}  # fmt: skip


@pytest.mark.parametrize("wire", rare(WIRES, but=["int8"]))
@pytest.mark.parametrize("last", [False, True])
def test_maps_in_any_memory_format(tmp_path, wire, last):
    found = set()
    for index, placed in enumerate([(1, "inline"), (2, "shared_memory"), (3, "process_group")]):
        changes = merged(changes_of("predsim", wire, *placed, run={"channels_last": last}), CONV)
        found.add(sha(tmp_path / str(index), changes))
    assert len(found) == 1


@pytest.mark.parametrize("wire", ["bfloat16", "int8"])
def test_under_autocast(tmp_path, wire):
    found = set()
    for index, placed in enumerate([(1, "inline"), (3, "shared_memory")]):
        found.add(sha(tmp_path / str(index), changes_of("predsim", wire, *placed, run={"autocast": "bfloat16"})))
    assert len(found) == 1


@pytest.mark.parametrize("wire", ["int8", "float16"])
def test_kept_outputs_of_frozen_blocks_change_nothing(tmp_path, wire):
    """The last batch of an epoch is smaller, and a sample is in another batch in every epoch."""
    sequential = {
        "schedule": {"mode": "sequential", "patience": 2, "tolerance": 0.2}, "train": {"epochs": 3, "batch_size": 100},
        "dataset": {"name": "digits"},
    }  # fmt: skip
    base = {**SMALL, "dataset": {"name": "digits"}}
    found = set()
    for index, (stages, transport, kept) in enumerate([
        (1, "inline", "off"), (1, "inline", "memory"), (2, "shared_memory", "memory"), ("blocks", "inline", "file"),
    ]):  # fmt: skip
        changes = merged(changes_of("predsim", wire, stages, transport), sequential)
        found.add(learned(tmp_path / str(index), merged(changes, {"schedule": {"cache": kept}}), base)[0])
    assert len(found) == 1


@pytest.mark.parametrize("rule", ["predsim", "frsf"])
def test_micro_batches_and_late_feedback(tmp_path, rule):
    train = {"train": {"in_flight": 3}} if rule == "frsf" else {}
    found = set()
    for index, placed in enumerate([(1, "inline"), (2, "shared_memory"), ("blocks", "shared_memory")]):
        found.add(sha(tmp_path / str(index), changes_of(rule, "int8", *placed, **train)))
    assert len(found) == 1


@pytest.mark.parametrize("mode", ["gpipe", "1f1b"])
def test_flush_schedules_round_activations_and_no_gradient(tmp_path, mode):
    more = {"schedule": {"mode": mode}, "train": {"microbatches": 4}}
    found = {sha(tmp_path / str(s), changes_of("backprop", "bfloat16", s, "shared_memory", **more)) for s in (2, 3)}
    assert found == {sha(tmp_path / "one", changes_of("backprop", "bfloat16", **more))}


# Going on -------------------------------------------------------------------------------------------------------

STEPS = {"snapshot": {"every_steps": 1}}


@pytest.mark.parametrize("rule", ["predsim", "frsf"])
def test_a_run_goes_on_exactly_on_other_stages_over_other_transports(tmp_path, rule):
    changes = {"rule": {"name": rule}, "transport": {"wire": "int8"}, **STEPS}
    reference = written(tmp_path / "run", changes)[:4]
    for stages, transport, cut in zip((1, 2, 3), ("inline", "shared_memory", "process_group"), (1, 6, 11)):
        folder = cuts_of(tmp_path / "run")[cut]
        placed = merged(changes, {"run": {"stages": stages}, "transport": {"name": transport, "wire": "int8"}})
        assert resumed(tmp_path / "run", folder, tmp_path / str(stages), placed)[:4] == reference


@pytest.mark.parametrize(
    ("was", "now", "text"),
    [
        ({"wire": "int8"}, {"wire": "same"}, "transport.wire: 'int8' in the run, now 'same'"),
        ({}, {"wire": "bfloat16"}, "transport.wire: 'same' in the run, now 'bfloat16'"),
        ({"wire": "int8"}, {"wire": "int8", "wire_at": [1]}, r"transport.wire_at: \[1, 2, 3\] in the run, now \[1\]"),
    ],
)
def test_a_run_does_not_go_on_with_another_wire(tmp_path, was, now, text):
    written(tmp_path / "run", {"transport": was, **STEPS})
    folder = cuts_of(tmp_path / "run")[0]
    with pytest.raises(ConfigError, match=text):
        resumed(tmp_path / "run", folder, tmp_path / "other", {"transport": now, **STEPS})


def test_all_cuts_named_are_the_cuts_of_none_named(tmp_path):
    changes = {"transport": {"wire": "int8"}, **STEPS}
    reference = written(tmp_path / "run", changes)[:4]
    named = merged(changes, {"transport": {"wire_at": [2, 1, 3]}})
    assert resumed(tmp_path / "run", cuts_of(tmp_path / "run")[3], tmp_path / "named", named)[:4] == reference


def test_a_run_from_before_wire_formats_had_none(tmp_path, monkeypatch):
    written(tmp_path / "run", STEPS)
    found, check = [], Origin.check

    def older(origin, *arguments):
        fixed = {k: v for k, v in origin.fixed.items() if not k.startswith("transport.")}
        found.append(origin.fixed.keys() - fixed.keys())
        check(dataclasses.replace(origin, fixed=fixed), *arguments)

    monkeypatch.setattr(Origin, "check", older)
    with pytest.raises(ConfigError, match="transport.wire: 'same' in the run, now 'int8'"):
        resumed(tmp_path / "run", cuts_of(tmp_path / "run")[0], tmp_path / "other", {"transport": {"wire": "int8"}})
    assert found == [{"transport.wire", "transport.wire_at"}]


# What is sent, and what is said ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("wire", "sample"), [("same", 32 * 4 + 8), ("float16", 32 * 2 + 1), ("int8", 32 + 4 + 1)])
def test_the_result_has_the_bytes_that_were_sent(tmp_path, wire, sample):
    """1437 training samples, twice; 360 of the test set."""
    table = run(tmp_path / "run", changes_of("predsim", wire, 2, "shared_memory"))
    first, last = table["stages"]
    assert table["wire"] == wire and last["bytes_sent"] == last["bytes_per_step"] == 0
    assert first["bytes_sent"] == 2 * (1437 + 360) * sample
    assert first["bytes_per_step"] == pytest.approx(1437 * sample / NUM_STEPS)


def test_a_resumed_run_counts_its_own_bytes(tmp_path):
    changes = {"transport": {"wire": "int8", "name": "shared_memory"}, "run": {"stages": 2}, **STEPS}
    written(tmp_path / "run", changes)
    resumed(tmp_path / "run", cuts_of(tmp_path / "run")[8], tmp_path / "other", changes)
    whole, part = (json.loads((tmp_path / name / "result.json").read_text()) for name in ("run", "other"))
    assert whole["stages"][0]["bytes_per_step"] == pytest.approx(52 * (12 + 4 + 1) / 5)
    assert part["stages"][0]["bytes_per_step"] == pytest.approx(whole["stages"][0]["bytes_per_step"], rel=0.2)


@pytest.mark.parametrize("wire", WIRES)
def test_a_number_that_is_none_still_stops_the_run(tmp_path, wire):
    poison = {"dataset": {"name": "tests.support.poison", "value": "inf", "bad": [3]}, "train": {"batch_size": 20}}
    changes = merged(changes_of("predsim", wire, 2, "inline", model={"norm": "none"}), poison)
    with pytest.raises(NonFiniteError, match="(nan|inf)"):
        run(tmp_path / "run", changes)
    assert json.loads((tmp_path / "run" / "result.json").read_text())["status"] == "failed"


@pytest.mark.parametrize("rule", ["predsim", "backprop"])
def test_what_is_measured_is_measured_of_the_rounded_network(tmp_path, rule):
    """The test accuracy is the run's, and backpropagation is at no angle with itself."""
    changes = changes_of(rule, "int8", measure={"every": 1, "probe_samples": 50}, model={"dropout": 0.0})
    table = run(tmp_path / "run", changes)
    resolved = resolve(Config.from_dict(merged(SMALL, changes)), tmp_path)
    states = load_blocks(latest_weights(tmp_path / "run"))
    row = Measurement(resolved, tmp_path, torch.device("cpu")).epoch(2, states, layout=False)
    assert row["blocks"][-1]["test_accuracy"] == table["test"]["accuracy"]
    if rule == "backprop":
        assert all(b["angle_deg"] == pytest.approx(0.0, abs=1e-3) for b in row["blocks"])


def test_a_wire_for_activations_that_have_none(tmp_path):
    changes = changes_of("backprop", "int8", model={"name": "tests.support.double_blocks"})
    with pytest.raises(ConfigError, match=r"input of block 1 has no wire format .*torch.float64, 1 dim.*wire_at"):
        run(tmp_path / "run", changes)
