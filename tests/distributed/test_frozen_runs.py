"""Frozen blocks: nothing of them changes, in any mode, wherever they are."""

import json

import pytest
import torch
from tests.support import resumes, runs

from pipeline.config import Config
from pipeline.config.blocks import parse_blocks
from pipeline.engine.build import build_rules
from pipeline.records.weights import latest_weights, load_blocks
from pipeline.resolve import resolve

pytestmark = pytest.mark.distributed
TINY = runs.merged(resumes.TINY, {"model": {"depth": 4}, "train": {"epochs": 2}})
"""Five blocks, with dropout and batch normalisation."""
SEQUENTIAL = {"mode": "sequential", "patience": 1, "tolerance": 0.3}


def initial(changes, folder):
    """The states that the blocks of a run begin with."""
    resolved = resolve(Config.from_dict(runs.merged(TINY, changes)), folder)
    rules = build_rules(resolved, resolved.blueprints, range(resolved.num_blocks), torch.device("cpu"))
    return [rule.state_dict() for rule in rules]


CASES = {
    "local": ({"rule": {"name": "predsim"}}, "1,3", [1, 2, 3, "blocks"]),
    "the-last": ({"rule": {"name": "pred"}}, "0,last", [1, 2]),
    "backprop": ({"rule": {"name": "backprop"}}, "0-1", [1, 2, 3, "blocks"]),
    "backprop-above": ({"rule": {"name": "backprop"}}, "2,last", [1, 2, 3, "blocks"]),
    "late-backprop": ({"rule": {"name": "backprop"}, "train": {"in_flight": 3}}, "1,3", [1, 2, "blocks"]),
    "dfa": ({"rule": {"name": "dfa"}}, "0,2", [1, 2, "blocks"]),
    "gpipe": ({"schedule": {"mode": "gpipe"}, "train": {"microbatches": 2}}, "0-1", [1, 2, 3]),
    "1f1b": ({"schedule": {"mode": "1f1b"}, "train": {"microbatches": 2}}, "0,3", [1, 2, "blocks"]),
    "the-mode-backprop": ({"schedule": {"mode": "backprop"}}, "0-2", [1]),
    "sequential": ({"schedule": SEQUENTIAL, "rule": {"name": "pred"}}, "0,2", [1, 2, "blocks"]),
    "sequential-uncached": ({"schedule": {**SEQUENTIAL, "cache": "off"}, "rule": {"name": "pred"}}, "0,2", [1, 3]),
    "momentum": ({"optimizer": {"name": "sgd", "momentum": 0.9, "weight_decay": 0.1}}, "1", [1, 2]),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_they_keep_their_weights_and_statistics_on_any_number_of_stages(name, tmp_path):
    changes, freeze, placements = CASES[name]
    changes = runs.merged(changes, {"train": {**changes.get("train", {}), "freeze": freeze}})
    results = [
        runs.run(tmp_path / str(n), runs.merged(changes, {"run": {"stages": n}}), base=TINY) for n in placements
    ]
    assert len({result["weights_sha256"] for result in results}) == 1
    before, after = initial(changes, tmp_path), load_blocks(latest_weights(tmp_path / str(placements[0])))
    frozen = [k for k, block in enumerate(results[0]["blocks"]) if block["epochs_trained"] == 0]
    assert frozen == parse_blocks(freeze, 5, "train.freeze")
    for k, (old, new) in enumerate(zip(before, after, strict=True)):
        same = all(torch.equal(old[key], new[key]) for key in old)
        assert same == (k in frozen)


def test_the_cache_changes_no_bit_of_it(tmp_path):
    shas = set()
    for cache in ("auto", "off", "file"):
        changes = {"schedule": {**SEQUENTIAL, "cache": cache}, "rule": {"name": "pred"}, "train": {"freeze": "1-2"}}
        shas.add(runs.run(tmp_path / cache, changes, base=TINY)["weights_sha256"])
    assert len(shas) == 1


def test_they_have_no_state_of_an_optimizer(tmp_path):
    optimizer = {"name": "sgd", "momentum": 0.9}
    whole = runs.run(tmp_path / "whole", {"optimizer": optimizer}, base=TINY)
    some = runs.run(tmp_path / "some", {"optimizer": optimizer, "train": {"freeze": "0-3"}}, base=TINY)
    assert 0 < some["stages"][0]["optimizer_bytes"] < whole["stages"][0]["optimizer_bytes"] / 4


@pytest.mark.parametrize("name", ["sequential", "backprop"])
def test_a_run_with_frozen_blocks_goes_on_from_any_step(name, tmp_path):
    changes, freeze, _ = CASES[name]
    changes = {**changes, "train": {"freeze": freeze}, "snapshot": {"every_steps": 1}}
    expected = resumes.written(tmp_path / "run", changes, TINY)[:4]
    for index, cut in enumerate(resumes.cuts_of(tmp_path / "run")[1::7]):
        placed = runs.merged(changes, {"run": {"stages": 1 + index % 3}})
        assert resumes.resumed(tmp_path / "run", cut, tmp_path / cut.name, placed, TINY)[:4] == expected


def test_freezing_all_but_the_last_is_training_the_last_alone(tmp_path):
    """What a frozen block gives does not depend on the batch that a sample is in."""
    runs.run(tmp_path / "run", {"train": {"freeze": "0-3"}, "rule": {"name": "backprop"}}, base=TINY)
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert [block["epochs_trained"] for block in result["blocks"]] == [0, 0, 0, 0, 2]
    local = runs.run(tmp_path / "local", {"train": {"freeze": "0-3"}, "rule": {"name": "drtp"}}, base=TINY)
    mine, theirs = (load_blocks(latest_weights(tmp_path / name))[-1] for name in ("run", "local"))
    assert local["test"] == result["test"] and all(torch.equal(mine[key], theirs[key]) for key in mine)
