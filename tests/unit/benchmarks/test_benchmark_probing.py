"""The benchmark of what the mode gated costs."""

import json

from benchmarks import probing
from benchmarks.tables import render

ARMS = ["parallel", *probing._GATES]


def test_a_small_run_from_end_to_end(tmp_path, capsys, monkeypatch):
    gates = {name: probing._GATES[name] for name in ("probe", "G2")}  # three runs are enough
    monkeypatch.setattr(probing, "_GATES", gates)
    out = tmp_path / "probing.json"
    case = ["--preset", "deep-thin", "--batch-size", "100", "--steps", "60", "--rounds", "1"]
    assert probing.main([*case, "--out", str(out)]) == 0
    found = json.loads(out.read_text())
    table = found["presets"]["deep-thin, batches of 100"]
    assert table["steps"] == 75  # three epochs of 25
    assert found["target"] == 0.05 and list(table["samples_per_s"]) == list(table["eval"]) == ["parallel", *gates]
    assert list(table["over parallel"]) == list(gates) and table["over parallel"]["G2"]["all"][0] > 0
    # Under the arm of the probe alone it passes and every step is a whole one.
    assert table["least gate"]["probe"] == 1.0 > table["least gate"]["G2"]
    assert all(0 < table["eval"][arm]["median"] < 1 for arm in ("parallel", "probe"))
    told = capsys.readouterr().out
    assert told.count("times the throughput of parallel") == 2 and "5% are allowed" in told


def test_its_table_has_a_row_for_each_arm(tmp_path):
    figure = {"median": 0.5, "min": 0.25, "max": 1.0, "all": [0.25, 0.5, 1.0]}
    of = {"samples_per_s": dict.fromkeys(ARMS, figure), "eval": dict.fromkeys(ARMS, figure),
          "over parallel": dict.fromkeys(ARMS[1:], figure)}  # fmt: skip
    (tmp_path / "probing.json").write_text(json.dumps({"presets": {"mlp-8x128": of}}))
    rows = render("probing", tmp_path).splitlines()[2:]
    assert [row.split(" | ")[1] for row in rows] == ARMS
    assert rows[0].endswith("| - | 50 % |") and rows[1].endswith("| 0.500 (0.250 to 1.00) | 50 % |")
