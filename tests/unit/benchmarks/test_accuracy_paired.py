"""Statements about two arms, seed by seed."""

import math

import pytest

from benchmarks.accuracy.cell import Cell, Contrast, Figure, PublishedTable
from benchmarks.accuracy.metrics import last
from benchmarks.accuracy.page import render
from benchmarks.accuracy.paired import Gain, gain, statements
from benchmarks.accuracy.store import Store


def test_the_interval_is_that_of_the_paired_t_test():
    # Student's own data of 1908, additional hours of sleep by two drugs: t = 4.0621 with 9 degrees of freedom.
    first = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
    second = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]
    found = gain(dict(enumerate(first)), dict(enumerate(second)))
    assert (found.mean, found.least, found.most) == pytest.approx((1.58, 0.7001142, 2.4598858))
    assert found.seeds == 10 and found.shown


def test_only_seeds_of_both_are_compared():
    assert gain({0: 1.0, 1: 2.0, 2: 9.0}, {0: 2.0, 1: 3.0, 5: 0.0}) == Gain(1.0, -math.inf, math.inf, 2)
    assert gain({0: 1.0, 1: 2.0}, {1: 2.0, 2: 4.0}) is None


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (Gain(0.35, 0.1, 0.6, 20), "beats parallel by 0.35 points (95 % interval 0.10 to 0.60, 20 seeds)"),
        (Gain(-0.35, -0.6, -0.1, 5), "trails parallel by 0.35 points (95 % interval 0.10 to 0.60, 5 seeds)"),
        (Gain(-0.001, -0.2, 0.198, 3), "no difference shown (gain 0.00 points, 95 % interval -0.20 to 0.20, 3 seeds)"),
        (Gain(0.5, -math.inf, math.inf, 3),
         "differs from parallel by the same 0.50 points in all 3 seeds: no interval"),
    ],
)
def test_what_is_said(found, said):
    assert found.said("parallel") == said


def test_a_table_says_what_its_runs_show(tmp_path):
    rows = ("net, G1", "net, plain")
    cells = [Cell(f"c{k}", {"train.epochs": k}, [Figure(n, "last", last)], (0, 1, 2)) for k, n in enumerate(rows)]
    table = PublishedTable("some", "Some", "nobody", cells,
                           contrasts=[Contrast("at 9 rounds", (rows[0], "last"), (rows[1], "last"))])  # fmt: skip
    store = Store(tmp_path)
    for cell, errors in zip(cells, ((1.0, 2.0, 3.5), (2.0, 3.0, 4.5)), strict=True):
        for seed, error in enumerate(errors):
            assert list(statements(table, store)) == []
            store.add(table, cell, {"seed": seed, "status": "completed", "errors": [error], "wall_s": 1.0, "epochs": 9,
                                    "device": "cpu", "threads": 1, "cpu": "some", "commit": "c"})  # fmt: skip
            if cell is cells[1] and seed == 0:
                break
    line = "- net, G1 against plain: at 9 rounds differs from plain by the same 1.00 points in all 2 seeds: no interval"
    store.add(table, cells[1], {**store.runs(table, cells[1])[0], "seed": 1, "errors": [3.0]})
    assert list(statements(table, store)) == [line] and line in render(table, store)
