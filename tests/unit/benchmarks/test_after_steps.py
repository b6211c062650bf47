"""Errors after every step of a run, from its snapshots."""

import json

from benchmarks import after_steps
from benchmarks.accuracy.attempt import summary
from benchmarks.accuracy.cell import Cell, Figure
from benchmarks.accuracy.metrics import after_steps as error_after
from benchmarks.accuracy.metrics import last
from benchmarks.accuracy.store import digest
from pipeline.config.toml_text import to_toml

CONFIG = {
    "model.name": "half_mlp", "model.width": [12], "dataset.name": "digits", "rule.name": "am", "train.epochs": 1,
    "optimizer.lr": 0.02, "optimizer.milestones": [], "train.batch_size": 200, "snapshot.every_steps": 1, "snapshot.keep": 100,
}  # fmt: skip


def test_the_last_steps_error_is_that_of_the_run(tmp_path):
    cell = Cell("one", CONFIG, [Figure("a", "b", error_after(8))])
    (tmp_path / "config.toml").write_text(to_toml(cell.nested(0)))
    arguments = ["--config", str(tmp_path / "config.toml"), "--out", str(tmp_path / "run"),
                 "--data-root", str(tmp_path), "--quiet"]  # fmt: skip
    assert after_steps.main(arguments) == 0
    found = json.loads((tmp_path / "run" / "after_steps.json").read_text())
    assert sorted(map(int, found)) == list(range(1, 9))
    run = summary(tmp_path / "run")
    assert error_after(8)(run) == last(run) == found["8"]
    assert len(set(found.values())) > 4 and error_after(9)(run) is None


def test_an_ordinary_run_has_no_such_errors():
    assert error_after(1)({"errors": [2.0]}) is None


def test_a_program_is_part_of_what_a_run_counts_for():
    plain, other = Cell("one", CONFIG, []), Cell("one", CONFIG, [], program=("benchmarks.after_steps",))
    assert digest(plain) != digest(other)
