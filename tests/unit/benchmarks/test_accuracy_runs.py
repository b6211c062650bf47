"""The command from end to end on the smallest of tables: runs, resumes, failures, and an end before the end."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from benchmarks.accuracy import __main__ as command
from benchmarks.accuracy.attempt import Attempt
from benchmarks.accuracy.cell import Cell, Figure, PublishedTable
from benchmarks.accuracy.metrics import best
from benchmarks.accuracy.metrics import test_loss as loss

pytestmark = pytest.mark.distributed

ROOT = Path(__file__).resolve().parents[3]
XOR = {"model.name": "mlp", "model.width": [8], "dataset.name": "signed_xor", "dataset.num_train": 64,
       "dataset.num_test": 64, "rule.name": "pred", "train.batch_size": 32, "train.epochs": 3}  # fmt: skip


def cell(name, seeds=(0,), device="cpu", limit_s=60.0, **changes):
    config = {**XOR, **{key.replace("__", "."): value for key, value in changes.items()}}
    return Cell(name, config, [Figure(name, "best", best)], seeds, device, limit_s)


def use(monkeypatch, *cells):
    monkeypatch.setattr(command, "TABLES", {"tiny": PublishedTable("tiny", "Tiny", "nobody", cells)})


def test_what_is_missing_is_run_and_nothing_else(tmp_path, monkeypatch, capsys):
    no_data = Cell("elsewhere", {"dataset.name": "fashion_mnist"}, [Figure("elsewhere", "best", best)])
    use(monkeypatch, cell("good", seeds=(0, 1)), cell("bad", rule__name="no_such_rule"), no_data,
        cell("gpu", device="cuda"))  # fmt: skip
    monkeypatch.setattr(command.torch.cuda, "is_available", lambda: False)
    arguments = ["--jobs", "2", "--out", str(tmp_path / "out"), "--data-root", str(tmp_path)]
    assert command.main([*arguments, "--seeds", "1"]) == 1  # one failed
    said = capsys.readouterr().out
    assert "tiny/bad, seed 0," in said and "failed: launch.py: unknown rule (given: 'no_such_rule'" in said
    assert "| bad | failed |" in said and "| elsewhere | data not reachable offline |" in said
    assert "| gpu | needs a GPU |" in said and "- Failed (bad, seed 0): launch.py: unknown rule" in said
    file = tmp_path / "out" / "tiny" / "good.json"
    first = json.loads(file.read_text())
    (run,) = first["runs"]
    assert run["status"] == "completed" and len(run["errors"]) == run["epochs"] == 3 and run["threads"] == 1
    assert run["versions"]["torch"] and run["wall_s"] > 0 and len(run["test_losses"]) == 3
    assert command.main([*arguments, "--cells", "good"]) == 0
    said = capsys.readouterr().out
    assert "tiny/good, seed 1," in said and "tiny/good, seed 0," not in said and "tiny/bad" not in said
    after = json.loads(file.read_text())
    assert after["runs"][0] == run and [r["seed"] for r in after["runs"]] == [0, 1]
    assert not list(Path(tmp_path / "out" / "tiny").glob("*.part"))


def test_an_option_that_does_not_exist_is_no_missing_data(tmp_path):
    machine = command.Machine(tmp_path)
    assert machine.lacks(Cell("a", {"dataset.name": "mnist"}, [])) == "data not reachable offline"
    assert machine.lacks(Cell("a", {"dataset.name": "mnist", "dataset.colour": 3}, [])) is None


def test_a_quick_run_is_kept_apart(tmp_path, monkeypatch, capsys):
    use(monkeypatch, cell("good", seeds=(0, 1), train__epochs=500))
    monkeypatch.setattr(command, "QUICK_RESULTS", tmp_path / "quick")
    monkeypatch.setattr(command, "RESULTS", tmp_path / "full")
    assert command.main(["--quick", "--table", "tiny"]) == 0
    kept = json.loads((tmp_path / "quick" / "tiny" / "good.quick.json").read_text())
    assert kept["quick"] and [r["epochs"] for r in kept["runs"]] == [2] and not (tmp_path / "full").exists()
    assert "--table tiny --quick`; 1 run of 2 epochs" in capsys.readouterr().out
    assert command.main(["--print"]) == 0 and "| good | not run |" in capsys.readouterr().out


def test_numbers_have_a_loss_and_no_error(tmp_path, monkeypatch, capsys):
    sine = {"dataset.name": "sine", "dataset.length": 4, "dataset.num_train": 8, "dataset.num_test": 4,
            "model.name": "rnn", "model.width": 3, "rule.name": "backprop", "train.epochs": 2}  # fmt: skip
    use(monkeypatch, Cell("sine", sine, [Figure("sine", "loss", loss)], limit_s=60.0))
    assert command.main(["--jobs", "1", "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    (run,) = json.loads((tmp_path / "out" / "tiny" / "sine.json").read_text())["runs"]
    assert run["errors"] == [] and len(run["test_losses"]) == 2
    assert f"s: test loss {run['test_losses'][-1]:.4g}\n" in said and f"| sine | {loss(run):.4g} |" in said


def test_a_run_that_takes_too_long_is_ended():
    attempt = Attempt(cell("slow", train__epochs=10**6), 0, Path("nowhere"))
    process = psutil.Process(attempt._child.pid)
    assert attempt.poll() is None
    attempt.cell = dataclasses.replace(attempt.cell, limit_s=0.0)
    run = attempt.poll()
    assert run["status"] == "failed" and "ended after 0 s (limit_s of the cell)" in run["error"]
    assert not process.is_running() and not Path(attempt._folder.name).exists()


@pytest.mark.parametrize("option", ["--jobs", "--seeds"])
def test_nothing_is_done_less_than_once(option, capsys):
    for given in ("0", "-1", "two"):
        with pytest.raises(SystemExit, match="2"):
            command.main(["--print", option, given])
        assert f"argument {option}: wrong number (given: {given}, expected: 1 or more)" in capsys.readouterr().err


def test_a_table_that_is_named_twice_is_run_once(tmp_path, monkeypatch, capsys):
    use(monkeypatch, cell("good"))
    assert command.main(["--list", "--table", "tiny", "--table", "tiny", "--out", str(tmp_path)]) == 0
    assert capsys.readouterr().out.count("of   1 cells  Tiny") == 1


def test_a_name_stands_for_the_tables_that_begin_with_it(monkeypatch, capsys, tmp_path):
    tables = {name: PublishedTable(name, name, "nobody", [cell("a")]) for name in ("wide-a", "wide-b", "wider")}
    monkeypatch.setattr(command, "TABLES", tables)
    assert command.main(["--list", "--table", "wide", "--table", "wide-b", "--out", str(tmp_path)]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if "cells" in line]
    assert [line.split()[0] for line in lines] == ["wide-a", "wide-b"]
    with pytest.raises(SystemExit, match="2"):
        command.main(["--list", "--table", "wid"])
    assert "no such table (given: wid, expected: wide-a, wide-b, wider). Change it." in capsys.readouterr().err


def test_the_list_tells_what_has_run(tmp_path, monkeypatch, capsys):
    use(monkeypatch, cell("good", seeds=(0, 1)), cell("gpu", device="cuda"))
    assert command.main(["--list", "--out", str(tmp_path)]) == 0
    assert capsys.readouterr().out.split() == ["tiny", "0", "of", "2", "cells", "Tiny"]
    assert command.main(["--list", "--table", "tiny", "--cells", "g*d", "--out", str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines()[1].split() == ["good", "cpu", "0", "of", "2", "seeds"]
    assert command.main(["--cells", "nothing", "--out", str(tmp_path)]) == 2
    assert "no cell has such a name (given: --cells 'nothing')" in capsys.readouterr().err


DRIVER = """
import signal, sys
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may run under nohup, which the command heeds
from benchmarks.accuracy import __main__ as command
from tests_cells import TABLE
command.TABLES = {"tiny": TABLE}
sys.exit(command.main(sys.argv[1:]))
"""

CELLS = f"""
from benchmarks.accuracy.cell import Cell, Figure, PublishedTable
from benchmarks.accuracy.metrics import best
XOR = {XOR!r}
TABLE = PublishedTable("tiny", "Tiny", "nobody", [
    Cell("short", XOR, [Figure("a", "b", best)]),
    Cell("long", {{**XOR, "train.epochs": 10**6}}, [Figure("c", "b", best)]),
])
"""


ENDS = [
    pytest.param(signal.SIGINT, 130, marks=pytest.mark.full), (signal.SIGTERM, 143),
    pytest.param(signal.SIGHUP, 129, marks=pytest.mark.full),
]  # fmt: skip


@pytest.mark.parametrize(("number", "status"), ENDS)
def test_an_end_before_the_end_stops_runs_and_keeps_what_was_done(number, status, tmp_path):
    (tmp_path / "tests_cells.py").write_text(CELLS)
    arguments = ["--jobs", "2", "--out", str(tmp_path / "out"), "--data-root", str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    process = subprocess.Popen([sys.executable, "-c", DRIVER, *arguments], cwd=ROOT, stderr=subprocess.PIPE, text=True,
                               stdout=subprocess.DEVNULL, env=environment)  # fmt: skip
    short = tmp_path / "out" / "tiny" / "short.json"
    until(short.exists)
    children = psutil.Process(process.pid).children(recursive=True)
    (long,) = (child for child in children if is_of("long.toml", child))
    family = [long, *long.children(recursive=True)]
    process.send_signal(number)
    if number != signal.SIGINT:  # timeout(1) and batch systems send a second one, which must not cut the way out short
        until(lambda: any(has_ended(child) for child in family))
        process.send_signal(number)
    assert process.wait(60.0) == status, process.stderr.read()
    process.stderr.close()
    _, alive = psutil.wait_procs({*children, *family}, timeout=10.0)
    assert not alive and json.loads(short.read_text())["runs"][0]["status"] == "completed"
    assert not (tmp_path / "out" / "tiny" / "long.json").exists()


def until(happened, within=90.0):
    deadline = time.monotonic() + within
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def is_of(name, process):
    """The run itself has the file on its command line, its stages do not."""
    try:
        return any(name in word for word in process.cmdline())
    except psutil.NoSuchProcess:
        return False


def has_ended(process):
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
