"""The benchmark of what snapshots cost."""

import json

from benchmarks import snapshots


def test_the_arms_differ_in_snapshots_alone():
    without, often = (snapshots.config_of("mlp-8x128", 100, every).to_dict() for every in (0, 50))
    assert without.pop("snapshot")["every_steps"] == 0 and often.pop("snapshot")["every_steps"] == 50
    assert without == often


def test_a_small_run_from_end_to_end(tmp_path, capsys):
    out = tmp_path / "s.json"
    options = ["--preset", "deep-thin", "--steps", "50", "--every", "25", "--rounds", "1", "--out", str(out)]
    assert snapshots.main(options) == 0
    table = json.loads(out.read_text())
    assert table["snapshots"] == 1 and table["bytes"] > 100_000  # the other one is that of the end
    assert len(table["with/without"]["all"]) == 1 and "times the throughput" in capsys.readouterr().out
