"""What the runs of a sweep come to: mean and spread of every cell, and which is best by what."""

import json

import pytest
from tests.support.report_runs import result_table

from pipeline.config import Config
from workers.sweep.axes import Grid
from workers.sweep.results import Results
from workers.sweep.text import run_line, sweep_lines


def result(test, validation=None, loss=1.0):
    chosen = {"selection": {"by": "validation accuracy", "validation": validation}} if validation is not None else {}
    return {"result": {**result_table(2), "rule": "pred", "test": {"accuracy": test, "loss": loss}, **chosen}}


@pytest.fixture
def swept(tmp_path):
    """Two cells with two seeds each."""
    cells = Grid(Config(), ["optimizer.lr=0.1,0.2"]).cells()

    def fill(*outcomes):
        results = Results(["optimizer.lr"], cells, [0, 1], tmp_path)
        for number, outcome in enumerate(outcomes):
            results.add(cells[number // 2], number % 2, outcome)
        results.write()
        assert json.loads((tmp_path / "sweep.json").read_text()) == results.table
        return results.table

    return fill


def test_without_a_validation_set_the_best_is_chosen_by_the_test_set_and_that_is_said(swept):
    table = swept(result(0.5), result(0.7), result(0.8), result(0.8))
    low, high = table["cells"]
    assert (low["score"], low["scores"], high["score_std"]) == (pytest.approx(0.6), [0.5, 0.7], 0.0)
    assert low["score_std"] == pytest.approx(0.02**0.5) and low["samples_per_s"] == 1234.0 and table["is_complete"]
    assert (table["selected_by"], table["by_validation"], table["best"]) == ("test accuracy", False, "optimizer.lr=0.2")
    lines = sweep_lines(table)
    assert lines[0].split("  ")[:2] == ["optimizer.lr", "test accuracy"] and "60.00 +- 14.14 %" in lines[1]
    assert lines[2].endswith("best") and lines[-2] == "best by test accuracy: optimizer.lr=0.2"
    assert lines[-1].startswith("WARNING: THE BEST CELL WAS CHOSEN BY THE TEST SET")
    assert "dataset.validation=0.1" in lines[-1]


def test_with_one_by_that_and_the_test_figure_stands_beside_it(swept):
    good, bad = {"accuracy": 0.9, "loss": 0.1}, {"accuracy": 0.6, "loss": 0.2}
    table = swept(result(0.5, good), result(0.7, good), result(0.8, bad), result(0.8, bad))
    assert (table["selected_by"], table["by_validation"]) == ("validation accuracy", True)
    lines = sweep_lines(table)
    assert [cell.strip() for cell in lines[1].split("  ") if cell][1:3] == ["90.00 +- 0.00 %", "60.00 +- 14.14 %"]
    assert table["best"] == "optimizer.lr=0.1" and lines[-1] == "best by validation accuracy: optimizer.lr=0.1"


def test_numbers_have_no_accuracy_and_the_least_loss_is_best(swept):
    table = swept(*(result(None, loss=loss) for loss in (0.1, 0.3, 0.4, 0.5)))
    assert (table["selected_by"], table["best"]) == ("test loss", "optimizer.lr=0.1")
    assert "0.200 +- 0.141" in sweep_lines(table)[1]


def test_a_cell_with_a_run_that_failed_or_is_yet_to_come_is_not_the_best(swept):
    table = swept(result(0.5), result(0.5), result(0.9), {"error": "no luck"})
    high = table["cells"][1]
    assert (high["score"], high["scores"], high["failed"]) == (0.9, [0.9, None], 1)
    assert table["best"] == "optimizer.lr=0.1" and not table["is_complete"]
    assert table["failures"] == [{"cell": "optimizer.lr=0.2", "seed": 1, "error": "no luck"}]
    assert "1 of 2" in sweep_lines(table)[2]
    table = swept({"error": "no luck"})
    assert table["best"] is None and sweep_lines(table)[-1] == "best: none, for no cell has completed all its runs"
    assert table["cells"][0]["score"] is None and "-" in sweep_lines(table)[1].split()


def test_a_line_for_each_run():
    assert run_line("lr=1", 3, "2/4", result(0.5)) == "[2/4] lr=1, seed 3: test accuracy 50.00 % after 8.00 s"
    assert run_line("lr=1", 3, "2/4", result(None)) == "[2/4] lr=1, seed 3: test loss 1.00 after 8.00 s"
    assert run_line("lr=1", 3, "2/4", {"error": "no luck"}) == "[2/4] lr=1, seed 3: failed: no luck"
