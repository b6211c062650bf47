"""What is kept of a run's folder."""

import json

import numpy as np
from tests.support.runs import run

from benchmarks.accuracy.attempt import summary
from benchmarks.accuracy.metrics import neighbours


def test_layouts_and_the_votes_of_neighbours_in_them(tmp_path):
    out = tmp_path / "run"
    measure = {"every": 1, "angles": False, "accuracies": False, "tsne": [1], "tsne_samples": 16}
    run(out, {"rule": {"name": "pred"}, "train": {"epochs": 2}, "measure": measure})
    found = summary(out)
    rows = json.loads((out / "measurements.json").read_text())["epochs"]
    votes = [row["blocks"][1]["neighbours_accuracy"] for row in rows]
    assert votes[1] is None  # only the first and the last epoch have layouts
    assert [row["epoch"] for row in found["neighbours"]] == [0, 2]
    assert [neighbours(when, 1)(found) for when in ("before", "after")] == [100 * votes[0], 100 * votes[2]]
    assert neighbours("after", 0)(found) is None
    with np.load(out / "measurements" / "tsne.npz") as arrays:
        assert found["layout"]["blocks"] == [1] and found["layout"]["labels"] == arrays["labels"].tolist()
        assert np.abs(np.asarray(found["layout"]["points"]) - arrays["points"][-1]).max() <= 0.051
    assert len(json.dumps(found["layout"])) < 16 * 20 + 150


def test_a_run_without_layouts_keeps_none(tmp_path):
    run(tmp_path / "run", {"rule": {"name": "pred"}, "train": {"epochs": 1}})
    found = summary(tmp_path / "run")
    assert found["neighbours"] is None and "layout" not in found and "filters" not in found
