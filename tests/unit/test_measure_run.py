"""Which epochs are measured, and what becomes of the files."""

import json

import pytest
import torch
from tests.support.runs import run

from pipeline.errors import WorkerFailed
from pipeline.records.weights import latest_weights, load_blocks, measured_folder, save_block
from workers import measure_run
from workers.measure_run import measured_epochs
from workers.placement import Placement

QUICK = {"rule": {"name": "pred"}, "train": {"epochs": 3}}


def rows_of(out, event):
    return [row for row in map(json.loads, (out / "record.jsonl").read_text().splitlines()) if row["event"] == event]


@pytest.mark.parametrize(
    ("every", "num_epochs", "epochs"),
    [(0, 5, []), (1, 2, [0, 1, 2]), (2, 5, [0, 2, 4, 5]), (5, 5, [0, 5]), (9, 5, [0, 5]), (2, 4, [0, 2, 4])],
)
def test_the_first_each_so_many_and_the_last(every, num_epochs, epochs):
    assert measured_epochs(every, num_epochs) == epochs


def test_a_run_that_is_not_measured_leaves_nothing_of_it(tmp_path):
    run(tmp_path / "run", QUICK)
    assert not (tmp_path / "run" / "measurements").exists() and rows_of(tmp_path / "run", "measurement") == []


@pytest.mark.parametrize("keep", [True, False])
def test_what_is_found_is_recorded_with_the_run(tmp_path, keep):
    out = tmp_path / "run"
    result = run(out, {**QUICK, "measure": {"every": 2, "keep_weights": keep}})
    table = json.loads((out / "measurements.json").read_text())
    assert [row["epoch"] for row in table["epochs"]] == [0, 2, 3] and table["num_blocks"] == 5
    assert [{k: v for k, v in row.items() if k not in ("time_s", "event")} for row in rows_of(out, "measurement")] == (
        table["epochs"]
    )
    # The run's own evaluation of every block, and its own accuracy, found again from the weights.
    for row in rows_of(out, "epoch"):
        for measured in table["epochs"]:
            if measured["epoch"] == row["epoch"] + 1:
                assert [b["test_accuracy"] for b in measured["blocks"]] == [b["test_accuracy"] for b in row["blocks"]]
    assert table["epochs"][-1]["blocks"][-1]["test_accuracy"] == result["test"]["accuracy"]
    assert json.loads((out / "result.json").read_text()) == json.loads(json.dumps(result))
    assert (out / "measurements").exists() == measured_folder(out, 2).exists() == keep
    assert len(load_blocks(latest_weights(out))) == 5


def test_weights_that_another_host_wrote_elsewhere(tmp_path):
    """The first stage's are here, the second one's are not."""
    for k in (0, 1):
        save_block(tmp_path, k, {})
    placement = Placement((range(2), range(2, 3)), ("cpu", "cpu"), "process_group", 1, ())
    with pytest.raises(WorkerFailed, match=r"^\[stage 1/2\] .* weights are not here \(given: .* without block 2, "
                                           r"expected: blocks 0 to 2\)\. Choose an --out that every host"):  # fmt: skip
        measure_run._weights(tmp_path, placement, 2, 7)
    save_block(tmp_path, 2, {})
    assert measure_run._weights(tmp_path, placement, 2, 7) == [{}, {}, {}]


@pytest.mark.parametrize(("precision", "tf32"), [("highest", False), ("high", True)])
def test_numbers_have_the_formats_of_the_run_and_afterwards_those_of_before(tmp_path, monkeypatch, precision, tf32):
    def formats():
        cudnn = torch.backends.cudnn
        return torch.get_num_threads(), torch.get_float32_matmul_precision(), cudnn.deterministic, cudnn.allow_tf32

    seen, before, epoch = set(), formats(), measure_run.Measurement.epoch
    monkeypatch.setattr(measure_run.Measurement, "epoch", lambda *a, **k: (seen.add(formats()), epoch(*a, **k))[1])
    run(tmp_path / "run", {**QUICK, "measure": {"every": 3}, "run": {"matmul_precision": precision}})
    assert seen == {(1, precision, True, tf32)} and formats() == before


def test_an_error_in_measuring_leaves_the_result_as_it_is(tmp_path, monkeypatch):
    monkeypatch.setattr(measure_run.Measurement, "epoch", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(tmp_path / "run", {**QUICK, "measure": {"every": 1}})
    assert json.loads((tmp_path / "run" / "result.json").read_text())["status"] == "completed"
