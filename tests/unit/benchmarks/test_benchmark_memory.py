"""The memory benchmark: what it takes apart, and small runs of two arms."""

import json
from pathlib import Path

import pytest

from benchmarks import memory, memory_arms

STAGE = {"stage": 0, "blocks": 4, "parameter_bytes": 10, "head_bytes": 2, "optimizer_bytes": 24, "held_bytes": 30,
         "queue_bytes": 5, "peak_rss_bytes": 1100, "peak_device_bytes": None}  # fmt: skip


def test_the_parts_add_up_to_the_peak_above_the_baseline():
    found = memory.split_up(STAGE, 1000)
    assert found["peak_bytes"] == 100
    assert sum(found[f"{part}_bytes"] for part in memory.PARTS) == 100


def test_on_a_device_only_tensors_count_and_slots_are_elsewhere():
    found = memory.split_up({**STAGE, "peak_device_bytes": 80}, 1000)
    assert (found["peak_bytes"], found["other_bytes"]) == (80, 80 - 10 - 2 - 24 - 30)


def test_rounds_become_medians_and_a_spread():
    runs = [[STAGE], [{**STAGE, "peak_rss_bytes": 1300}], [{**STAGE, "peak_rss_bytes": 1200}]]
    found = memory.row_of(memory_arms.ARMS[0], 8, runs, [1000, 1010, 1000])
    assert found["stages"][0]["peak_bytes"] == {"median": 200, "min": 100, "max": 290, "all": [100, 290, 200]}
    assert found["stages"][0]["other_bytes"] == 129 and found["baseline_bytes"] == 1000


def test_growth_is_of_the_stage_that_holds_most():
    rows = [{"arm": arm, "blocks": n, "stages": [{"held_bytes": 1}, {"held_bytes": held}]}
            for arm, n, held in (("a", 8, 4), ("b", 8, 2), ("a", 64, 4), ("b", 64, 16))]  # fmt: skip
    assert memory.growth(rows) == {"a": 1.0, "b": 8.0}


def test_blocks_have_their_bytes_without_heads():
    config = memory_arms.config_of(memory_arms.ARMS[0], 4, 32, 16, "cpu")
    assert memory_arms.block_bytes(config) == [4 * (32 * 32 + 32)] * 3 + [4 * (32 * 10 + 10)]


@pytest.mark.parametrize("preset", memory_arms.WORKLOADS)
def test_every_arm_updates_on_the_same_batch(preset):
    work = memory_arms.WORKLOADS[preset]
    assert {work.config(arm, 8, 32, 16, "cpu").train.batch_size for arm in work.arms} == {16}
    assert len({arm.name for arm in work.arms}) == len(work.arms)


def test_small_runs_from_end_to_end(tmp_path, monkeypatch, capsys):
    """In this session's processes: a fresh tree for each takes seconds to import torch."""
    monkeypatch.setattr(memory, "in_fresh_tree", memory.one)
    assert memory.main(["--quick", "--out", str(tmp_path / "m.json")]) == 0
    found = json.loads((tmp_path / "m.json").read_text())
    assert [(row["blocks"], row["arm"]) for row in found["networks"]] == [
        (2, "onward-2"), (2, "backprop"), (4, "onward-2"), (4, "backprop"),
    ]  # fmt: skip
    ours, plain = found["networks"][2]["stages"], found["networks"][3]["stages"]
    assert [stage["blocks"] for stage in ours] == [2, 2] and [stage["blocks"] for stage in plain] == [4]
    own = sum(memory_arms.block_bytes(memory_arms.config_of(memory_arms.ARMS[0], 4, 32, 16, "cpu")))
    assert sum(stage["parameter_bytes"] for stage in ours) == plain[0]["parameter_bytes"] == own
    assert sum(stage["head_bytes"] for stage in ours) == 3 * 4 * 32 * 10 and plain[0]["head_bytes"] == 0
    assert ours[0]["queue_bytes"] > 0 and ours[0]["held_bytes"] > 0
    # Inputs of the four layers, of which each but the first is also what a relu saves; and what the loss keeps.
    inputs, outputs = 4 * 16 * 32 * 4, 16 * 10 * 4
    assert inputs < plain[0]["held_bytes"] <= inputs + 3 * outputs
    assert "4 blocks, backprop" in capsys.readouterr().out


@pytest.mark.full
def test_a_block_of_a_language_model_holds_the_same_whatever_is_above_it(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "in_fresh_tree", memory.one)
    assert memory.main(["--quick", "--preset", "lm", "--out", str(tmp_path / "m.json")]) == 0
    found = json.loads((tmp_path / "m.json").read_text())
    rows = {(row["arm"], row["blocks"]): row["stages"] for row in found["networks"]}
    assert set(rows) == {(arm, count) for arm in ("onward, a stage per block", "backprop") for count in (2, 4)}
    small, large = ([s["held_bytes"] for s in rows["onward, a stage per block", count]] for count in (2, 4))
    assert [small[0], *[large[1]] * 2, small[1]] == large and found["held_growth"]["onward, a stage per block"] == 1.0
    # A block by itself keeps its input normed; where that is to have a gradient, the input as it is as well.
    assert sum(large) <= rows["backprop", 4][0]["held_bytes"] <= 1.05 * sum(large)
    assert found["preset"] == "lm" and found["width"] == 32


def test_a_fresh_tree_answers():
    assert memory.in_fresh_tree({"arm": None}) > 50 * 2**20


def test_a_run_that_fails_or_hangs_is_reported(monkeypatch, tmp_path):
    monkeypatch.setattr(memory.sys, "executable", "/bin/false")
    with pytest.raises(RuntimeError, match=r"a run failed \(given: .*; it says: nothing on its standard error\)"):
        memory.in_fresh_tree({"arm": None})
    sleeper = Path(tmp_path / "sleeper")
    sleeper.write_text("#!/bin/sh\nsleep 20\n")
    sleeper.chmod(0o755)
    monkeypatch.setattr(memory.sys, "executable", str(sleeper))
    monkeypatch.setattr(memory, "LIMIT_S", 0.3)
    with pytest.raises(RuntimeError, match=r"not done in time \(given: .*expected: within 0\.3 s"):
        memory.in_fresh_tree({"arm": None})
