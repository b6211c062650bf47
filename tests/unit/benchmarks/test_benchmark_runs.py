"""The table runner: what it sums up, and one small table from end to end."""

import json

import pytest

from benchmarks import runs
from pipeline.config import load_config


def row(accuracy, seconds, stages=2):
    epoch_s = None if seconds is None else {"median": seconds, "all": [seconds]}
    return {"arm": "a", "epoch_s": epoch_s, "result": {"test": {"accuracy": accuracy}, "num_stages": stages}}


def test_an_arm_over_its_seeds():
    found = runs.summary([row(0.9, 2.0), row(0.7, 4.0), row(0.8, None)])
    assert found == {"arm": "a", "n": 3, "median_accuracy": 0.8, "worst": 0.7, "best": 0.9, "stages": 2,
                     "median_epoch_s": 3.0}  # fmt: skip
    assert runs.markdown([found]).splitlines()[-1] == "| a | 20.00 (10.00 to 30.00) | 3 | 3.00 |"
    single = runs.summary([row(0.975, None)])
    assert runs.markdown([single]).splitlines()[-1] == "| a | 2.50 | 1 | - |"


def test_every_arm_names_a_config_and_can_be_loaded():
    arms = [arm for table in runs.TABLES.values() for arm in table.arms]
    assert len(arms) > 10
    for arm in arms:
        loaded = load_config(runs.CONFIGS / f"{arm.config}.toml", arm.overrides)
        assert loaded.config.train.epochs > 0


@pytest.mark.parametrize("name", sorted(runs.TABLES))
def test_backprop_stands_first_in_every_table(name):
    assert runs.TABLES[name].arms[0].name.startswith("backprop")


def test_a_table_from_end_to_end(tmp_path, monkeypatch, capsys):
    arm = runs.RunArm("small", "digits", ["transport.name=inline", "run.stages=2", "run.threads=1"], (0, 1))
    monkeypatch.setitem(runs.TABLES, "small", runs.RunTable("two seeds", [arm]))
    assert runs.main(["small", "train.epochs=2", "--out", str(tmp_path / "small.json")]) == 0
    assert "| small | " in capsys.readouterr().out
    found = json.loads((tmp_path / "small.json").read_text())
    assert [r["seed"] for r in found["rows"]] == [0, 1] and found["summary"][0]["n"] == 2
    assert len(found["rows"][0]["accuracies"]) == 2 and len(found["rows"][0]["epoch_s"]["all"]) == 1
    assert found["rows"][0]["result"]["epochs"] == 2 and "commit" in found["environment"]
