"""Runs with a validation set: one choice and the same bits wherever the blocks are, and however often a run is cut."""

import json

import pytest
import torch
from tests.support import resumes, runs
from tests.support.products import rare
from tests.support.trained_networks import check_loaded

import onward
from pipeline.config import Config
from pipeline.errors import ConfigError
from pipeline.records.run_record import read_record
from pipeline.records.weights import latest_weights, load_blocks
from workers.resume import open_origin
from workers.run import train

pytestmark = pytest.mark.distributed
BASE = runs.merged(resumes.TINY, {
    "dataset": {"name": "tests.support.easy_samples", "validation": 0.25}, "train": {"epochs": 5},
    "optimizer": {"lr": 1e-2, "milestones": [2], "gamma": 1e4},
})  # fmt: skip
"""54 of 72 samples are trained on, in five steps; from the third epoch on at a rate that spoils what was learned."""
SLOWLY = {"optimizer": {"milestones": [], "gamma": 1.0}}
WAYS = {
    "parallel": {},
    "stopped early": {"train": {"epochs": 9, "patience": 2}},
    "late feedback": {"rule": {"name": "fa"}, "train": {"in_flight": 3}},
    "sequential": {
        "schedule": {"mode": "sequential", "patience": 2}, "rule": {"name": "pred"},
        "train": {"epochs": 4, "patience": 2}},
    "the last one": SLOWLY,
    "backprop": {"schedule": {"mode": "backprop"}},
    "1f1b": {"schedule": {"mode": "1f1b"}, "model": {"norm": "none"}},
    "now and then": {"train": {"eval_every": 2}},
}  # fmt: skip
THREE = {"run": {"stages": 3}}
PROCESSES = {**THREE, "transport": {"name": "shared_memory"}}


def run(out, *changes):
    base = BASE
    for change in changes:
        base = runs.merged(base, change)
    return runs.run(out, base=base)


def known(table):
    return {name: table[name] for name in ("weights_sha256", "test", "selection", "epochs", "steps")}


@pytest.mark.parametrize("way", rare(WAYS, but={"stopped early", "late feedback", "sequential", "1f1b"}))
def test_placement_changes_no_choice(way, tmp_path):
    one = run(tmp_path / "one", WAYS[way])
    assert one["selection"]["by"] == "validation accuracy"
    assert known(run(tmp_path / "three", WAYS[way], THREE)) == known(one)
    check_loaded(tmp_path / "three", one, folder=tmp_path, data_root=tmp_path)


@pytest.mark.parametrize("way", rare(["stopped early", "sequential"], but={"sequential"}))
def test_processes_choose_alike(way, tmp_path):
    assert known(run(tmp_path / "three", WAYS[way], PROCESSES)) == known(run(tmp_path / "one", WAYS[way]))


@pytest.mark.full
def test_replicas_choose_alike(tmp_path):
    parts = {"train": {"microbatches": 2}, "model": {"norm": "none"}, "rule": {"name": "pred"}}
    one = run(tmp_path / "one", WAYS["stopped early"], parts)
    several = {"run": {"replicas": [1, 2, 1]}}
    assert known(run(tmp_path / "four", WAYS["stopped early"], parts, PROCESSES, several)) == known(one)


@pytest.mark.parametrize("way", ["parallel", "backprop"])
def test_the_weights_are_those_of_the_chosen_epoch(way, tmp_path):
    table = run(tmp_path / "long", WAYS[way])
    epoch = table["selection"]["epoch"]
    assert epoch < table["epochs"] - 1, "the test says something only where the best epoch is not the last one"
    run(tmp_path / "short", WAYS[way], {"train": {"epochs": epoch + 1}})
    same(blocks(tmp_path / "long", chosen=True), blocks(tmp_path / "short"))
    assert any(not torch.equal(a, b) for a, b in pairs(blocks(tmp_path / "long"), blocks(tmp_path / "short")))


def test_what_is_held_out_never_trains(tmp_path):
    run(tmp_path / "held out", WAYS["parallel"])
    base = {**BASE, "dataset": {"name": "tests.support.easy_samples", "without": 0.25}}
    table = runs.run(tmp_path / "kept", base=base)
    assert table["selection"]["test_set"] == "scored in every epoch"
    same(blocks(tmp_path / "held out"), blocks(tmp_path / "kept"))


def test_the_test_set_is_scored_once(tmp_path):
    table = run(tmp_path / "run", WAYS["stopped early"])
    rows = read_record(tmp_path / "run" / "record.jsonl")
    tests = [row for row in rows if row["event"] == "test"]
    epochs = [row for row in rows if row["event"] == "epoch"]
    assert len(tests) == 1 and len(epochs) == table["epochs"] < 9
    assert all(b["test_accuracy"] is None and b["validation_accuracy"] is not None for e in epochs for b in e["blocks"])
    assert tests[0]["blocks"][-1]["test_accuracy"] == table["test"]["accuracy"]
    chosen = epochs[table["selection"]["epoch"]]["blocks"][-1]
    assert table["selection"]["validation"]["accuracy"] == chosen["validation_accuracy"]
    assert table["selection"]["validation_samples"] == 18


def test_the_best_epoch_is_the_first_of_the_best(tmp_path):
    table = run(tmp_path / "run", WAYS["stopped early"])
    rows = [row for row in read_record(tmp_path / "run" / "record.jsonl") if row["event"] == "epoch"]
    values = [(b["validation_accuracy"], -b["validation_loss"]) for row in rows for b in row["blocks"][-1:]]
    assert values.index(max(values)) == table["selection"]["epoch"]
    assert table["epochs"] == values.index(max(values)) + 1 + 2 + 1  # two without a better one, and one under way


@pytest.mark.parametrize(("way", "nth"), [
    ("stopped early", 3), ("sequential", 7), pytest.param("stopped early", 1, marks=pytest.mark.full),
    pytest.param("sequential", 1, marks=pytest.mark.full),
])  # fmt: skip
def test_a_run_is_taken_up_from_every_cut(way, nth, tmp_path):
    """Or from every ``nth``: the two kinds, between and inside epochs, take turns."""
    changes = runs.merged(WAYS[way], {"snapshot": {"every_steps": 3, "every_epochs": 1}})
    whole = resumes.written(tmp_path / "run", changes, base=BASE)
    cuts = resumes.cuts_of(tmp_path / "run")
    assert len(cuts) > 6
    for number, cut in enumerate(cuts[1::nth]):
        away = runs.merged(changes, THREE if number % 2 else {})
        found = resumes.resumed(tmp_path / "run", cut, tmp_path / f"again-{number}", away, base=BASE)
        assert found[:4] == whole[:4], cut.name
        assert selection(tmp_path / f"again-{number}") == selection(tmp_path / "run")


def test_a_run_that_has_ended_goes_on(tmp_path):
    few, more = {"train": {"epochs": 3}}, {"train": {"epochs": 5}}
    run(tmp_path / "run", few)
    for changes in (few, {"train": {"epochs": 3, "patience": 3}}):
        with pytest.raises(ConfigError, match="there is nothing left to train"):
            go_on(tmp_path / "run", changes)
    assert known(go_on(tmp_path / "run", more)) == known(run(tmp_path / "whole", more))


def go_on(out, changes):
    config = Config.from_dict(runs.merged(BASE, changes))
    return train(config, out=out, data_root=out, origin=open_origin(out, allow_changes=True))


def test_modes_are_compared_by_what_they_chose(tmp_path):
    table = onward.compare(BASE, "model.norm=none", against=["backprop"], out=tmp_path / "out", quiet=True)
    for mode in ("parallel", "backprop"):
        (folder,) = (tmp_path / "out" / mode).iterdir()
        assert selection(folder)["by"] == "validation accuracy"
        scored, recorded = onward.evaluate(folder)["accuracy"], onward.Run(folder)["test"]["accuracy"]
        assert scored == table["arms"][mode]["test"] == recorded


def test_measurements_look_at_the_validation_set(tmp_path):
    run(tmp_path / "run", {"measure": {"every": 2}, "train": {"epochs": 2}})
    measured = json.loads((tmp_path / "run" / "measurements.json").read_text())["epochs"][-1]
    rows = read_record(tmp_path / "run" / "record.jsonl")
    (row,) = [row for row in rows if row["event"] == "epoch" and row["epoch"] == 1]
    assert [b["test_accuracy"] for b in measured["blocks"]] == [b["validation_accuracy"] for b in row["blocks"]]


def selection(out):
    return json.loads((out / "result.json").read_text())["selection"]


def blocks(out, **options):
    return load_blocks(latest_weights(out), **options)


def pairs(first, second):
    assert [list(state) for state in first] == [list(state) for state in second]
    return [(a[name], b[name]) for a, b in zip(first, second, strict=True) for name in a]


def same(first, second):
    assert all(torch.equal(a, b) for a, b in pairs(first, second))
