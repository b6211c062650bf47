"""Hooks and loggers of real runs: told everything, waited for by nobody, and able to end a run in order."""

import csv
import json
import threading

import onward
import pytest
from tests.support import own_loggers, resumes
from tests.support.command import call, call_ranks
from tests.support.runs import merged, run, sha

from pipeline.config.toml_text import to_toml
from pipeline.errors import NonFiniteError
from workers.listening.hooks import Hooks
from workers.listening.listened import listened
from workers.view.terminal import view_maker

pytestmark = pytest.mark.distributed
TWO = merged(resumes.TINY, {"rule": {"name": "pred"}, "run": {"stages": 2}, "transport": {"name": "auto"}})
ONE = merged(TWO, {"run": {"stages": 1}, "transport": {"name": "inline"}})


def rows_of(folder):
    return [json.loads(line) for line in (folder / "record.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("tables", [ONE, TWO], ids=["one process", "two processes"])
def test_a_run_does_not_wait_for_a_hook(tmp_path, tables):
    """The hook returns once the run is over, which only somebody else can tell it."""
    over, waited = threading.Event(), []

    def beside(run, rows):
        assert [row.event for row in rows][-1] == "result"
        over.set()

    def on_epoch(row):
        waited.append(over.wait(60))

    make_view = listened(view_maker(quiet=True), [("beside", beside)], Hooks(on_epoch=on_epoch))
    table = run(tmp_path / "run", {"train": {"epochs": 8}}, base=tables, make_view=make_view)
    assert waited == [True] * 8 and table["epochs"] == 8


def test_hooks_and_loggers_are_told_what_the_record_says_and_change_nothing(tmp_path):
    told, steps, ends = [], [], []
    plain = onward.train(TWO, out=tmp_path / "plain", data_root=tmp_path, quiet=True)
    watched = onward.train(
        TWO, out=tmp_path / "run", data_root=tmp_path, quiet=True, log=["csv", "tests.support.own_loggers.kept"],
        on_step=steps.append, on_epoch=told.append, on_end=ends.append,
    )  # fmt: skip
    assert watched["weights_sha256"] == plain["weights_sha256"] and "stopped" not in dict(watched)
    recorded = [row for row in rows_of(watched.folder) if row.get("event") == "epoch"]
    assert [row["epoch"] for row in told] == [0, 1, 2]
    for row in told:
        blocks = [b for r in recorded if r["epoch"] == row["epoch"] for b in r["blocks"]]
        blocks.sort(key=lambda b: b["block"])
        assert row["blocks"] == blocks and row["test_loss"] == blocks[-1]["test_loss"]
    assert {row["stage"] for row in steps} <= {0, 1} and all(row["step"] < 15 for row in steps)
    (end,) = ends
    assert end == json.loads((watched.folder / "result.json").read_text())
    with (watched.folder / "metrics.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [float(line["test_loss"]) for line in lines] == [row["test_loss"] for row in told]
    assert [row.event for row in own_loggers.rows] == ["epoch"] * 3 + ["result"]


@pytest.mark.parametrize("tables", [ONE, TWO], ids=["one process", "two processes"])
def test_stop_ends_a_run_in_order_and_it_can_be_gone_on_with(tmp_path, tables):
    def on_epoch(row):
        raise onward.Stop("seen enough")

    changes = {"train": {"epochs": 300}}
    run = onward.train(merged(tables, changes), out=tmp_path / "run", data_root=tmp_path, quiet=True, on_epoch=on_epoch)
    done = run["epochs"]
    assert 0 < done < 300 and run["status"] == "completed" and run["stopped"] == "on_epoch: seen enough"
    assert onward.evaluate(run)["loss"] == run["test"]["loss"]
    same = sha(tmp_path / "same", {"train": {"epochs": done}}, base=tables)
    assert same == run["weights_sha256"]
    code, _, err = call(
        "--resume", tmp_path / "run", f"train.epochs={done + 1}", "--allow-changes", "--quiet", "--data-root", tmp_path
    )
    assert (code, err) == (0, "")
    assert json.loads((tmp_path / "run" / "result.json").read_text())["epochs"] == done + 1


def test_a_failing_run_is_told_of_too(tmp_path):
    ends = []
    with pytest.raises(NonFiniteError):
        onward.train(merged(ONE, {"optimizer": {"name": "sgd", "lr": 1e30}}), out=tmp_path / "run", quiet=True,
                     data_root=tmp_path, on_end=ends.append)  # fmt: skip
    (end,) = ends
    assert end["status"] == "failed" and end == json.loads((tmp_path / "run" / "result.json").read_text())


def test_a_command_and_its_ranks_write_logs(tmp_path):
    (tmp_path / "tiny.toml").write_text(to_toml(TWO))
    arguments = ["--config", tmp_path / "tiny.toml", "--log", "csv", "--quiet", "--data-root", tmp_path]
    assert call(*arguments, "--out", tmp_path / "one")[::2] == (0, "")
    said = call_ranks(2, tmp_path, *arguments, "--out", tmp_path / "ranks")
    assert [code for code, _, _ in said] == [0, 0]
    for name in ("one", "ranks"):
        assert len((tmp_path / name / "metrics.csv").read_text().splitlines()) == 4
    code, _, err = call(*arguments, "--log", "csw", "--out", tmp_path / "none")
    assert code == 2 and err.count("\n") == 1 and "unknown logger (given: 'csw'" in err
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("tables", "mode"),
    [(TWO, "parallel"), *(pytest.param(*case, marks=pytest.mark.full)
                          for case in ((ONE, "parallel"), (ONE, "sequential"), (TWO, "sequential")))],
)  # fmt: skip
def test_a_run_that_is_stopped_ends_with_its_best_epoch_too(tmp_path, tables, mode):
    def on_epoch(row):
        told.append(row)
        raise onward.Stop("seen enough")

    told = []
    changes = {"train": {"epochs": 300}, "dataset": {"validation": 0.25}, "schedule": {"mode": mode, "patience": 300}}
    run = onward.train(merged(tables, changes), out=tmp_path / "run", data_root=tmp_path, quiet=True, on_epoch=on_epoch)
    assert run["stopped"] == "on_epoch: seen enough" and run["epochs"] == len(told) < 300
    assert run["selection"]["test_set"].startswith("scored once")
    assert onward.evaluate(run)["loss"] == run["test"]["loss"]
    if mode == "parallel":
        best = max(told, key=lambda row: (row["validation_accuracy"], -row["validation_loss"], -row["epoch"]))
        assert run["selection"]["epoch"] == best["epoch"]
