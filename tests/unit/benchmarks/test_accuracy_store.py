"""What is kept of runs: by seed, for one config, whole at any moment."""

import dataclasses
import json

import pytest

from benchmarks.accuracy.cell import Cell, Figure, PublishedTable
from benchmarks.accuracy.metrics import best
from benchmarks.accuracy.store import Store, digest

CELL = Cell("small", {"model.name": "mlp", "train.epochs": 30}, [Figure("a", "b", best)], seeds=(0, 1, 2))
TABLE = PublishedTable("some", "Some", "nobody", [CELL])


def completed(seed, error=5.0):
    return {"seed": seed, "status": "completed", "errors": [error], "wall_s": 1.0}


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "results")


def test_runs_are_kept_by_seed_and_the_rest_is_missing(store):
    assert store.missing(TABLE, CELL, CELL.seeds) == [0, 1, 2]
    store.add(TABLE, CELL, completed(2))
    store.add(TABLE, CELL, completed(0))
    store.add(TABLE, CELL, completed(2, 4.0))
    assert [(r["seed"], r["errors"]) for r in store.completed(TABLE, CELL)] == [(0, [5.0]), (2, [4.0])]
    assert store.missing(TABLE, CELL, CELL.seeds) == [1]
    kept = json.loads(store.path(TABLE, CELL).read_text())
    assert kept["command"][-4:] == ["--table", "some", "--cells", "small"] and kept["config"] == CELL.config
    assert [p.name for p in store.path(TABLE, CELL).parent.iterdir()] == ["small.json"]


def test_a_failure_is_kept_and_counts_for_nothing(store):
    store.add(TABLE, CELL, {"seed": 1, "status": "failed", "error": "no", "wall_s": 1.0})
    assert store.runs(TABLE, CELL)[0]["error"] == "no" and store.completed(TABLE, CELL) == []
    assert store.missing(TABLE, CELL, (1,)) == [1]
    store.add(TABLE, CELL, completed(1))
    assert store.missing(TABLE, CELL, (1,)) == [] and len(store.runs(TABLE, CELL)) == 1


def test_a_cell_that_was_edited_has_not_run(store):
    store.add(TABLE, CELL, completed(0))
    edited = dataclasses.replace(CELL, config={**CELL.config, "train.epochs": 31})
    assert store.runs(TABLE, edited) == [] and len(store.runs(TABLE, CELL)) == 1
    store.add(TABLE, edited, completed(1))
    assert store.runs(TABLE, CELL) == [] and store.missing(TABLE, edited, CELL.seeds) == [0, 2]


def test_the_digest_is_of_what_runs_and_of_nothing_else():
    reordered = {"train.epochs": 30, "model.name": "mlp"}
    assert digest(dataclasses.replace(CELL, config=reordered, seeds=(5,), figures=[], limit_s=1.0)) == digest(CELL)
    assert digest(dataclasses.replace(CELL, device="cuda")) != digest(CELL)
    assert digest(CELL, quick=True) != digest(CELL)


def test_quick_runs_are_never_taken_for_full_ones(tmp_path):
    full, quick = Store(tmp_path), Store(tmp_path, quick=True)
    quick.add(TABLE, CELL, completed(0))
    assert full.runs(TABLE, CELL) == [] and len(quick.runs(TABLE, CELL)) == 1
    full.add(TABLE, CELL, completed(0, 3.0))
    quick.add(TABLE, CELL, completed(1))
    assert full.runs(TABLE, CELL) == [completed(0, 3.0)]  # nor do they take their place, whatever --out says
    assert [r["seed"] for r in quick.runs(TABLE, CELL)] == [0, 1]
    short = dataclasses.replace(CELL, config={**CELL.config, "train.epochs": 1})  # quick leaves it as it is
    quick.add(TABLE, short, completed(0))
    assert digest(short) == digest(short, quick=True) and full.runs(TABLE, short) == []


def test_a_seed_that_the_cell_no_longer_names_is_not_counted(store):
    store.add(TABLE, CELL, completed(7))
    assert store.completed(TABLE, CELL) == []
