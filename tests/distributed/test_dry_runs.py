"""Runs with a dry run first: in every mode, over every transport, and with the same result as without."""

import json
import logging

import pytest
from tests.support.command import call, call_ranks
from tests.support.processes import left_running
from tests.support.runs import run, sha

from pipeline.config import Config
from pipeline.planning import taken
from pipeline.resolve import resolve
from workers import cost_cache
from workers.dry_run import dry_run
from workers.dry_run.dry_run import rehearse
from workers.placement import Placement

pytestmark = pytest.mark.distributed
PREDICTED = {"train": {"epochs": 3, "batch_size": 100}, "run": {"predict": True}}
"""45 steps: nine are tried first."""


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ONWARD_CACHE", str(tmp_path / "cache"))
    yield tmp_path / "cache" / "costs"
    assert left_running() == []


def merged(**sections):
    return {name: {**PREDICTED.get(name, {}), **section} for name, section in {**PREDICTED, **sections}.items()}


@pytest.mark.parametrize(
    "sections",
    [
        {"run": {"stages": 2}},
        {"run": {"stages": 2}, "transport": {"name": "shared_memory"}},
        {"run": {"stages": 3}, "transport": {"name": "process_group"}, "rule": {"name": "dfa"}},
        {
            "run": {"stages": 2}, "transport": {"name": "shared_memory"}, "rule": {"name": "backprop"},
            "train": {"in_flight": 3},
        },
        {"run": {"stages": 2}, "transport": {"name": "shared_memory"}, "schedule": {"mode": "1f1b"}},
        {"run": {"stages": 2}, "schedule": {"mode": "gpipe"}},
        {"transport": {"name": "shared_memory"}, "schedule": {"mode": "backprop"}},
        {
            "run": {"stages": 2}, "transport": {"name": "shared_memory"},
            "rule": {"name": "tests.support.settling_rule"},
        },
    ],
    ids=["inline", "shared", "group-dfa", "late", "1f1b", "gpipe-inline", "backprop", "settling"],
)  # fmt: skip
def test_every_mode_is_predicted_and_none_is_changed(tmp_path, sections):
    sections = merged(**sections)
    table = run(tmp_path / "run", sections)
    plain = {**sections, "run": {**sections["run"], "predict": False}}
    assert table["weights_sha256"] == sha(tmp_path / "plain", plain)
    predicted = table["predicted"]
    assert len(predicted["stage_s"]) == table["num_stages"] and min(predicted["stage_s"]) > 0
    assert predicted["samples_per_s"] > 0
    header = json.loads((tmp_path / "run" / "record.jsonl").read_text().splitlines()[0])
    assert header["predicted"] == predicted


def test_a_run_without_a_dry_run_predicts_nothing(tmp_path):
    table = run(tmp_path / "run", {"schedule": {"mode": "sequential"}, "run": {"predict": True}})
    assert table["predicted"] is None


def test_measured_blocks_and_the_pace_are_kept(tmp_path, own_cache, monkeypatch):
    monkeypatch.setattr(cost_cache, "forget", lambda kind, key: None)  # a busy machine may disprove any prediction
    monkeypatch.setattr(taken, "LEAST_SHARE", 0.0)  # and what is measured on one is not kept for long
    sections = merged(run={"stages": 2, "partition": "measured"}, transport={"name": "shared_memory"})
    first = run(tmp_path / "first", sections)
    assert sorted(path.name.partition("-")[0] for path in own_cache.iterdir()) == ["blocks", "pace"]
    again = run(tmp_path / "again", sections)
    known, before = again["predicted"], first["predicted"]
    assert known["measured"]["at"] == before["measured"]["at"] and known["measured"]["age_s"] > 0
    assert {**known, "measured": None} == {**before, "measured": None}
    assert again["weights_sha256"] == first["weights_sha256"]
    assert [stage["blocks"] for stage in again["stages"]] == [stage["blocks"] for stage in first["stages"]]


@pytest.mark.parametrize("transport", ["inline", "shared_memory"])
def test_a_dry_run_in_which_a_block_breaks_down_leaves_the_run_alone(tmp_path, caplog, transport):
    """The run will meet the same, and says which stage it was."""
    model = {"name": "tests.support.bad_blocks.in_training"}
    sections = merged(model=model, run={"stages": 2}, transport={"name": transport}, train={"epochs": 300})
    caplog.set_level(logging.DEBUG, "workers.dry_run.dry_run")
    with pytest.raises(Exception, match="breaks down in train"):
        run(tmp_path / "run", {**sections, "rule": {"name": "pred"}})
    told = [record.getMessage() for record in caplog.records if record.name == "workers.dry_run.dry_run"]
    assert len(told) == 1 and told[0].startswith("the dry run failed: ") and "breaks down" in told[0]


def test_the_command_line_tells_what_is_predicted(tmp_path):
    flags = ["--out", tmp_path / "run", "--stages", "2", "run.threads=1", "train.epochs=5"]
    code, out, err = call(*flags)
    assert code == 0, err
    predicted = json.loads((tmp_path / "run" / "result.json").read_text())["predicted"]
    own = " | ".join(f"{seconds * 1000:.3g}" for seconds in predicted["stage_s"])
    rate = f"{predicted['samples_per_s']:,.0f}".replace(",", " ")
    lines = out.splitlines()
    told = f", 5 epochs of 23 steps, predicted: {own} ms per batch, {rate} samples/s"
    before, rest = lines[0].partition(told)[::2]
    is_busy = predicted["measured"]["is_busy"]
    assert before and (rest.startswith(", measured on a busy machine") if is_busy else not rest)
    assert f"samples/s (predicted: {rate}) over" in lines[-1]


@pytest.mark.parametrize("transport", ["shared_memory", "process_group"])
def test_ranks_of_one_host_are_predicted(tmp_path, transport):
    flags = ["--quiet", "--out", tmp_path / "run", "--transport", transport, "run.threads=1", "train.epochs=3"]
    assert call_ranks(2, tmp_path, *flags) == [(0, "", "")] * 2
    predicted = json.loads((tmp_path / "run" / "result.json").read_text())["predicted"]
    assert predicted is not None and len(predicted["stage_s"]) == 2


@pytest.mark.parametrize("rule", ["pred", "dfa"])
def test_stages_with_replicas_are_rehearsed(tmp_path, rule):
    """All processes of a placement, for a moment: the pace of the last stage's last replica."""
    config = Config.from_dict({
        "model": {"name": "mlp", "depth": 2, "width": 16, "norm": "none"}, "rule": {"name": rule},
        "dataset": {"name": "noise", "shape": [8], "num_train": 320, "num_test": 16},
        "train": {"batch_size": 16, "microbatches": 2}, "run": {"threads": 1, "replicas": [1, 2]},
    })  # fmt: skip
    placement = Placement((range(1), range(1, 3)), ("cpu",) * 3, "shared_memory", 1, counts=(1, 2))
    # Processes that take turns have a part of a core each, which says nothing of other programs.
    for cores in (2, 3):
        step_s, taken = rehearse(resolve(config, tmp_path), placement, cores, tmp_path)
        assert 0.0 < step_s < 10.0 and taken.age_s() < 60.0 and (taken.share is None) is (cores < 3)


def test_a_rehearsal_whose_steps_take_too_long_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(dry_run, "SLOW_S", 1e-9)
    config = Config.from_dict({
        "model": {"name": "mlp", "depth": 1, "width": 8, "norm": "none"}, "rule": {"name": "pred"},
        "dataset": {"name": "noise", "shape": [8], "num_train": 64, "num_test": 8}, "run": {"threads": 1},
    })  # fmt: skip
    placement = Placement((range(2),), ("cpu",), "shared_memory", 1)
    with pytest.raises(TimeoutError, match="too long .two steps took 0 s, expected: 0 s at most.*predict = false"):
        rehearse(resolve(config, tmp_path), placement, 2, tmp_path)
