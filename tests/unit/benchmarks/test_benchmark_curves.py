"""Learning curves of stored runs."""

import base64
import re

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


def test_every_rule_s_curve_from_one_deviation_in_a_panel_for_each_unit(tmp_path):
    table = TABLES["lra-table1-mnist"]
    for place, cell in enumerate(table.cells):  # of other deviations too, which have no place in this figure
        run = {"seed": 0, "status": "completed", "errors": [50.0, 40.0 - place]}
        Store(tmp_path / "accuracy").add(table, cell, run)
    assert curves.draw(tmp_path) == [tmp_path / "plots" / "accuracy-lra-table1-mnist.svg"]
    text = (tmp_path / "plots" / "accuracy-lra-table1-mnist.svg").read_text()
    assert all(text.count(f">{said}<") == 2 for said in ("backprop", "fa", "dfa", "dtp", "lra_fdbk", "test error, %"))
    assert all(text.count(f">{said}<") == 1 for said in ("sigmoid", "tanh"))


def test_filters_of_the_first_seed_of_every_cell(tmp_path):
    table = TABLES["lra-figure3"]
    shown = [base64.b64encode(bytes(range(6))).decode()] * 2
    for seed, after in ((1, 9.0), (0, 41.25)):
        found = {"before": 50.0, "after": after, "shape": [2, 3], "shown": shown}
        for cell in table.cells[:2]:
            run = {"seed": seed, "status": "completed", "filters": found, "errors": [9.0]}
            Store(tmp_path / "accuracy").add(table, cell, run)
    assert curves.draw(tmp_path) == [tmp_path / "plots" / "accuracy-lra-figure3.svg"]
    text = (tmp_path / "plots" / "accuracy-lra-figure3.svg").read_text()
    assert ">backprop: total variation 41.2<" in text and "total variation 9<" not in text
    assert text.count("<image ") == 2


def test_layouts_of_hidden_layers(tmp_path):
    table = TABLES["lra-figure6"]
    points = [[[float(place), block + 0.5] for place in range(6)] for block in range(3)]
    run = {"seed": 0, "status": "completed", "errors": [9.0], "epochs": 1,
           "neighbours": [{"epoch": 1, "blocks": [0.5, None, 0.875, None]}],
           "layout": {"blocks": [0, 1, 2], "labels": [4, 4, 4, 7, 7, 7], "points": points}}  # fmt: skip
    for cell in (table.cells[0], table.cells[3]):
        Store(tmp_path / "accuracy").add(table, cell, run)
    assert curves.draw(tmp_path) == [tmp_path / "plots" / "accuracy-lra-figure6.svg"]
    text = (tmp_path / "plots" / "accuracy-lra-figure6.svg").read_text()
    assert ">backprop<" in text and ">DFA<" in text
    assert re.findall(">(layer .*?)<", text) == ["layer 1: 50.0 %", "layer 2", "layer 3: 87.5 %"] * 2
    assert text.count(">4<") == text.count(">7<") == 6
