"""What a block's step costs: every way of doing it does the same work."""

import json

import pytest
import torch

from benchmarks import overhead
from benchmarks.overhead import Size

SMALL = Size(16, 8, 2)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_every_way_takes_its_steps_and_gives_a_time(tmp_path):
    ways = overhead.arms(SMALL, 3, tmp_path)
    assert {"products alone", "stage", "program", "written plainly, fused Adam"} <= set(ways)
    assert all(way() > 0 for way in ways.values())


def test_the_file_has_parts_and_ratios_of_every_size(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(overhead, "SIZES", (SMALL,))
    assert overhead.main(["--quick", "--out", str(tmp_path / "overhead.json")]) == 0
    found = json.loads((tmp_path / "overhead.json").read_text())
    assert list(found["parts"]) == list(found["ratios"]) == ["2 x 16 x 16, batch 8"]
    ratios = found["ratios"]["2 x 16 x 16, batch 8"]
    assert len(ratios["written plainly, fused Adam / stage"]["all"]) == 3
    assert found["environment"]["threads"] == 1
    assert "written plainly, fused Adam / stage" in capsys.readouterr().out
