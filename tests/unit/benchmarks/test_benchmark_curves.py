"""Learning curves of stored runs."""

import pytest

from benchmarks.accuracy.store import Store
from benchmarks.published import TABLES

curves = pytest.importorskip("benchmarks.curves", reason="matplotlib draws the figures and is not installed")


def test_medians_over_the_runs_that_have_a_value():
    runs = [{"errors": [3.0, 2.0, 1.0]}, {"errors": [5.0, None]}, {"errors": [4.0, 8.0]}, {}]
    assert curves.median_curve(runs, "errors") == {1: 4.0, 2: 5.0, 3: 1.0}
    assert curves.median_curve(runs, "train_errors") == {}


def test_a_figure_for_each_table_that_has_runs_with_both(tmp_path):
    assert curves.draw(tmp_path) == []
    table = TABLES["mertens"]
    run = {"seed": 0, "status": "completed", "train_losses": [0.5, 0.25], "test_losses": [0.6, 0.3], "errors": [9, 8]}
    for cell in table.cells[:5]:
        Store(tmp_path / "accuracy").add(table, cell, run)
    other = TABLES["nokland-eidnes-mnist"]
    Store(tmp_path / "accuracy").add(other, other.cells[0], run)  # an older run: no error in training
    assert curves.draw(tmp_path) == [tmp_path / "plots" / "accuracy-mertens.svg"]
    text = (tmp_path / "plots" / "accuracy-mertens.svg").read_text()
    assert text.count(">training<") == 5 and "sequential-trained" in text and "output loss" in text
    first = text
    curves.draw(tmp_path)
    assert (tmp_path / "plots" / "accuracy-mertens.svg").read_text() == first


def test_errors_against_updates_saved(tmp_path):
    table = TABLES["gated-rest"]
    for saved, cell in enumerate(table.cells):
        found = {"epochs": [17], "taken": [[18.0 - saved]], "errors": [[3.0]]}
        run = {"seed": 0, "status": "completed", "course": found, "block_errors": [1.0]}
        Store(tmp_path / "accuracy").add(table, cell, run)
    assert curves.draw(tmp_path) == [tmp_path / "plots" / "accuracy-gated-rest.svg"]
    text = (tmp_path / "plots" / "accuracy-gated-rest.svg").read_text()
    assert all(f">{said}<" in text for said in ("pred", "linear", "updates saved, %", "test error, %"))
