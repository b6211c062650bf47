"""The sequential benchmark: every block trains equally long, and growth is taken round by round."""

import json
from pathlib import Path

import pytest

from benchmarks import sequential
from pipeline.resolve import resolve
from pipeline.schedules.schedule import EpochResult

SIZE = {"width": 16, "batch": 8, "samples": 16}


@pytest.mark.parametrize("cache", sequential.CACHES)
def test_every_block_trains_the_same_number_of_epochs_whatever_its_loss_does(cache):
    schedule = resolve(sequential.config_of(2, cache, 1, SIZE), Path()).schedule()
    history = []
    while (plan := schedule.plan(len(history), history)) is not None:
        losses = tuple(1.0 if mode.name == "TRAIN" else None for mode in plan.modes)
        history.append(EpochResult(plan, losses))
    assert len(history) == 3 * sequential.EPOCHS
    assert any(result.plan.store for result in history) == (cache == "memory")


def test_times_of_unequal_work_are_refused(monkeypatch):
    result = {"wall_s": 1.0, "blocks": [{"epochs_trained": 3}, {"epochs_trained": 2}]}
    monkeypatch.setattr(sequential, "train", lambda *args, **kwargs: result)
    with pytest.raises(RuntimeError, match=r"unequally long \(given: \[3, 2\] epochs, expected: 3 each\)"):
        sequential.seconds(sequential.config_of(1, "off", 1, SIZE))


def test_growth_is_taken_round_by_round(monkeypatch):
    times = iter([1.0, 2.0, 5.0, 7.0, 10.0, 4.0, 3.0, 2.0])  # the second round goes backward
    monkeypatch.setattr(sequential, "seconds", lambda config: next(times))
    memory, off = sequential.table_of([4, 8], [1], SIZE, 2)["arms"]
    assert (memory["cache"], memory["growth"]["8/4"]["all"]) == ("memory", [2.0, 1.5])
    assert (off["cache"], off["growth"]["8/4"]["all"]) == ("off", [1.4, 2.5])


def test_small_runs_from_end_to_end(tmp_path, capsys):
    assert sequential.main(["--quick", "--out", str(tmp_path / "s.json")]) == 0
    found = json.loads((tmp_path / "s.json").read_text())
    assert found["blocks"] == [1, 2] and [row["cache"] for row in found["arms"]] == ["memory", "off"]
    assert all(row["seconds"]["2"]["median"] > 0 for row in found["arms"])
    assert capsys.readouterr().out.count("time grows by 2/1") == 2
