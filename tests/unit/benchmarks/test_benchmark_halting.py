"""The benchmark of what halting saves."""

import json

import pytest

from benchmarks import halting
from benchmarks.tables import render

CONFIG = """
[model]
name = "mlp"
depth = 3
width = 16
activation = "tanh"
norm = "none"
[dataset]
name = "noise"
shape = [1, 4, 4]
num_train = 40
num_test = 10
num_classes = 2
[rule]
name = "lra_fdbk"
[optimizer]
name = "sgd"
lr = 0.01
[train]
batch_size = 20
[run]
threads = 1
"""


def figure(*values):
    return {"median": values[0], "min": min(values), "max": max(values), "all": list(values)}


def test_arms_differ_in_halting_alone():
    configs = [halting.config_of(halting._CONFIG, share, level, epochs=2, stages=1).to_dict()
               for share, level in [(0.0, "sample"), (1e-4, "sample"), (1e-4, "batch")]]  # fmt: skip
    told = [{key: config["rule"].pop(key, None) for key in ("halt", "halt_level")} for config in configs]
    assert told == [{"halt": None, "halt_level": None}, {"halt": 1e-4, "halt_level": "sample"},
                    {"halt": 1e-4, "halt_level": "batch"}]  # fmt: skip
    assert configs[0] == configs[1] == configs[2] and configs[0]["train"]["eval_every"] == 2


def test_a_step_is_timed_without_evaluation_and_credit_counts_blocks_whatever_their_stage(tmp_path, monkeypatch):
    rows = [{"event": "header"}] + [
        {"event": "epoch", "blocks": [{"credit": credit} for credit in credits]}
        for credits in ([0.25, 0.5], [1.0], [0.0, 0.25], [0.5])
    ]

    def train(config, *, out, data_root):
        out.mkdir()
        (out / "record.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        stages = [{"wall_s": 3.0, "eval_s": 1.0}, {"wall_s": 3.0, "eval_s": 2.0}]
        return {"stages": stages, "steps": 4, "epochs": 2, "test": {"accuracy": 0.75}}

    monkeypatch.setattr(halting, "train", train)
    assert halting.figures(None, tmp_path) == {"step_s": 0.5, "depth": 1.25, "test_error": 0.25}
    rows[1:] = [{"event": "epoch", "blocks": [{"credit": None}] * 3}] * 2
    assert halting.figures(None, tmp_path)["depth"] == 3  # a rule that never halts counts none


def test_ratios_are_taken_round_by_round(tmp_path, monkeypatch):
    times = iter([8.0, 4.0, 2.0, 1.0, 4.0, 4.0])  # the second round goes backward
    monkeypatch.setattr(halting, "figures", lambda *_: {"step_s": next(times), "depth": 2.0, "test_error": 0.1})
    found = halting.measured(halting._CONFIG, [0.5], epochs=1, stages=1, rounds=2, data_root=tmp_path)
    arms = found["arms"]
    assert {name: arm["over none"]["all"] for name, arm in arms.items()} == {
        "none": [1.0, 1.0], "sample, 0.5": [0.5, 1.0], "batch, 0.5": [0.25, 0.25],
    }  # fmt: skip
    assert found["batch over sample"]["0.5"]["all"] == [0.5, 0.25]
    assert (arms["none"]["level"], arms["none"]["share"], arms["batch, 0.5"]["level"]) == ("none", 0.0, "batch")


def test_small_runs_from_end_to_end(tmp_path, capsys):
    config, out = tmp_path / "small.toml", tmp_path / "halting.json"
    config.write_text(CONFIG)
    told = ["--config", config, "--share", "1e9", "--epochs", "1", "--rounds", "1", "--data-root", tmp_path]
    assert halting.main([*map(str, told), "--out", str(out)]) == 0
    arms = json.loads(out.read_text())["arms"]
    # So large a share halts everything at the output.
    depths = {name: arm["depth"] for name, arm in arms.items()}
    assert depths == {"none": 4.0, "sample, 1e+09": 0.0, "batch, 1e+09": 0.0}
    assert all(arm["step_s"]["median"] > 0 for arm in arms.values())
    assert capsys.readouterr().out.count("times a step without halting") == 3


@pytest.mark.parametrize("level", ["none", "sample", "batch"])
def test_its_table_has_a_row_for_each_arm(tmp_path, level):
    arm = {"level": level, "share": 0.0 if level == "none" else 0.005, "step_s": figure(2e-3), "depth": 2.345,
           "over none": figure(0.5, 0.25), "test_error": 0.0625}  # fmt: skip
    found = {"arms": {level: arm}, "batch over sample": {"0.005": figure(0.75)}}
    (tmp_path / "halting.json").write_text(json.dumps(found))
    (row,) = render("halting", tmp_path).splitlines()[2:]
    assert row == {
        "none": "| none | - | 2.00 ms | - | - | 2.35 | 6.25 |",
        "sample": "| sample | 0.005 | 2.00 ms | 0.500 (0.250 to 0.500) | - | 2.35 | 6.25 |",
        "batch": "| batch | 0.005 | 2.00 ms | 0.500 (0.250 to 0.500) | 0.750 | 2.35 | 6.25 |",
    }[level]
