"""What is measured does not depend on where the blocks were."""

import json

import numpy as np
import pytest
import torch
from tests.support.command import ROOT, call_ranks
from tests.support.runs import run

from pipeline.config import load_config
from pipeline.records.weights import latest_weights, load_blocks, measured_folder

pytestmark = pytest.mark.distributed
MEASURE = {"measure": {"every": 1, "tsne": [1], "tsne_samples": 40, "probe_samples": 100, "readout_samples": 300}}
XOR = {
    "dataset": {"name": "signed_xor", "num_train": 200, "num_test": 100}, "train": {"epochs": 6, "batch_size": 200},
    "model": {"name": "mlp", "depth": 3, "width": [12, 6], "activation": "mish", "norm": "l2"},
    "optimizer": {"name": "rprop", "lr": 0.01}, "rule": {"name": "linear_decoder"},
    "schedule": {"mode": "sequential", "patience": 2}, "measure": {"every": 4, "maps": True},
}  # fmt: skip


def placed(stages, transport):
    return {"run": {"stages": stages}, "transport": {"name": transport}}


def states_equal(first, second):
    return all(
        a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
        for a, b in zip(first, second, strict=True)
    )


def arrays_of(path):
    with np.load(path) as found:
        return dict(found)


@pytest.mark.parametrize("rule", ["predsim", "fa", "dfa"])
def test_two_stages_are_measured_as_one_is(tmp_path, rule):
    changes = {"rule": {"name": rule}, **MEASURE}
    for stages, transport in ((1, "inline"), (2, "shared_memory")):
        run(tmp_path / transport, {**changes, **placed(stages, transport)})
    inline, shared = tmp_path / "inline", tmp_path / "shared_memory"
    assert (inline / "measurements.json").read_text() == (shared / "measurements.json").read_text()
    one, two = arrays_of(inline / "measurements" / "tsne.npz"), arrays_of(shared / "measurements" / "tsne.npz")
    assert one.keys() == two.keys() and all(np.array_equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("in_flight", [1, 3])
def test_the_files_of_all_stages_are_the_state_after_the_epoch(tmp_path, in_flight):
    """Of another run that ends there: nothing of the next epoch is in it, nothing is still in flight."""
    changes = {"rule": {"name": "fa"}, "train": {"in_flight": in_flight}}
    measured = {**changes, **MEASURE, **placed(3, "shared_memory")}
    run(tmp_path / "run", {**measured, "train": {**changes["train"], "epochs": 3}})
    for epochs in (1, 2, 3):
        short = {**changes, "train": {**changes["train"], "epochs": epochs}}
        run(tmp_path / str(epochs), short)
        ended = load_blocks(latest_weights(tmp_path / str(epochs)))
        assert states_equal(load_blocks(measured_folder(tmp_path / "run", epochs)), ended)


def test_a_sequential_run_whose_length_nobody_knew(tmp_path):
    run(tmp_path / "one", {**XOR, **placed(1, "inline")})
    result = run(tmp_path / "two", {**XOR, **placed(2, "shared_memory")})
    tables = [json.loads((tmp_path / name / "measurements.json").read_text()) for name in ("one", "two")]
    assert tables[0] == tables[1] and tables[0]["epochs"][-1]["epoch"] == result["epochs"]
    maps = [arrays_of(tmp_path / name / "measurements" / "maps.npz") for name in ("one", "two")]
    assert all(np.array_equal(maps[0][name], maps[1][name]) for name in maps[0])


def test_ranks_are_measured_as_one_stage_is(tmp_path):
    overrides = ["train.epochs=1", "run.threads=1", "measure.every=1", "measure.probe_samples=50"]
    assert call_ranks(2, tmp_path, "--quiet", "--out", tmp_path / "ranks", *overrides) == [(0, "", "")] * 2
    alone = load_config(ROOT / "configs" / "digits.toml", [*overrides, "run.stages=1", "transport.name=inline"])
    run(tmp_path / "alone", base=alone.config.to_dict())
    tables = [(tmp_path / name / "measurements.json").read_text() for name in ("ranks", "alone")]
    assert tables[0] == tables[1] and len(json.loads(tables[0])["epochs"]) == 2


def test_a_prediction_of_the_speed_leaves_no_weights_behind(tmp_path):
    """The dry run trains for an epoch, too."""
    changes = {**MEASURE, "train": {"epochs": 3}, **placed(2, "inline")}
    changes["measure"] = {**MEASURE["measure"], "every": 2, "tsne": []}
    changes["run"]["predict"] = True
    run(tmp_path / "run", changes)
    assert sorted(p.name for p in (tmp_path / "run" / "measurements").iterdir()) == ["epoch-2"]
