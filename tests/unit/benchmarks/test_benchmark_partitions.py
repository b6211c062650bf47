"""All cuts of a net beside the planned one; plans and runs are told."""

import json

import pytest

from benchmarks import partitions as module
from benchmarks.partitions import NETS, near
from benchmarks.tables import render
from pipeline.planning.partition import balanced

ROW = {"schedule": "onward", "stages": 2, "partition": [3, 6], "replicas": [1, 1], "mode": "parallel", "threads": 1,
       "step_s": 0.01, "samples_per_s": 5000.0, "least_depth": 1, "stage_s": [0.01, 0.01]}  # fmt: skip


def test_the_even_cut_of_the_uneven_net_is_wrong():
    widths = module._WIDTHS
    work = [a * b for a, b in zip((784, *widths), (*widths, 10), strict=True)]
    assert [len(blocks) for blocks in balanced(work, 2)][0] <= 2 < len(work) // 2


def test_cuts_near_the_best_are_run_again_and_so_is_the_planned_one():
    assert near({1: 50.0, 2: 95.0, 3: 100.0, 4: 89.0}, planned=1) == [1, 2, 3]
    assert near({1: 50.0, 2: 95.0, 3: 100.0, 4: 89.0}, planned=3) == [2, 3]


@pytest.fixture
def told(monkeypatch):
    """Cuts in the order of their runs; four blocks first are fastest, and get slower from run to run."""
    cuts = []

    def watch(config, warm, num_samples, folder, look_s):
        cut = config.run.partition[0]
        cuts.append(cut)
        return {"samples_per_s": 1000.0 - 60 * abs(cut - 4) - cuts.count(cut)}

    monkeypatch.setattr(module, "plan_rows", lambda *args, **kwargs: [ROW])
    monkeypatch.setattr(module, "watch_run", watch)
    return cuts


def test_every_cut_is_tried_and_the_near_ones_in_turns(told, tmp_path, capsys):
    out = tmp_path / "partitions.json"
    assert module.main(["--net", "mlp-uneven", "--rounds", "2", "--out", str(out)]) == 0
    assert told == [1, 2, 3, 4, 5, 6, 7, 8, 3, 4, 5, 5, 4, 3]
    (net,) = json.loads(out.read_text())["nets"]
    assert (net["planned"], net["best"]) == (3, 4)
    assert net["share"]["median"] == pytest.approx(938 / 998) and len(net["share"]["all"]) == 3
    assert "mlp-uneven: planned 3, best 4 blocks in the first stage; 94.0% of its rate" in capsys.readouterr().out
    text = render("partitions", tmp_path)
    assert "| mlp-uneven | 4 | 998 (997 to 999) | 3 | best |" in text and "| 3 | planned |" in text
    assert "| mlp-uneven | 1 | 819 | 1 |  |" in text
    assert text.endswith("mlp-uneven: the planned cut has 94.0 % (94.0 % to 94.0 %) of the best one's rate.")


def test_a_plan_that_has_the_best_cut_is_told(told, monkeypatch):
    monkeypatch.setattr(module, "plan_rows", lambda *args, **kwargs: [{**ROW, "partition": [4, 5]}])
    found = module.compare(NETS["mlp-uneven"], 1, 1.0)
    assert found["best"] == found["planned"] == 4 and found["share"]["median"] == 1.0
