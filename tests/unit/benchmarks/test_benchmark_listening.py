"""The benchmark of what loggers and hooks cost."""

import json

from benchmarks import listening


def test_a_small_run_from_end_to_end(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(listening, "SLEEP_S", 0.001)
    out = tmp_path / "listening.json"
    options = ["--preset", "deep-thin", "--steps", "20", "--rounds", "1", "--log", "csv", "--out", str(out)]
    assert listening.main(options) == 0
    table = json.loads(out.read_text())
    assert table["log"] == ["csv"] and len(table["over nobody"]["sleeping"]["all"]) == 1
    assert all(-1 < share < 1 for share in table["more cpu, of the wall time of the stages"].values())
    assert table["cpu_s"]["nobody"]["median"] > 0
    assert capsys.readouterr().out.count("times the throughput of a run that nobody hears") == 2
