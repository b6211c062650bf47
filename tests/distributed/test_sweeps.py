"""A sweep of real processes: its runs, one that fails, and an end before the end that the same command goes on from."""

import json
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from tests.support import resumes, runs
from tests.support.command import call
from tests.support.tiny_config import config_file

pytestmark = pytest.mark.distributed

ROOT = Path(__file__).resolve().parents[2]
TINY = runs.merged(resumes.TINY, {
    "train": {"epochs": 2}, "snapshot": {"every_epochs": 1, "keep": 1}, "transport": {"name": "auto"},
})  # fmt: skip


def arguments(folder, *words):
    config = config_file(folder, TINY)
    return ["--config", str(config), "--out", str(folder / "out"), "--data-root", str(folder), *words]


def start(folder, *words):
    command = [sys.executable, str(ROOT / "launch.py"), *arguments(folder, *words)]
    return subprocess.Popen(command, cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


@contextmanager
def ended_at_last(process):
    """Whatever happens, it is gone afterwards."""
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=10)


def until(happened, within=300.0):
    deadline = time.monotonic() + within
    while not (found := happened()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


def test_runs_side_by_side_are_those_of_commands_and_one_that_fails_is_noted(tmp_path):
    code, out, err = call(*arguments(tmp_path, "--sweep", "optimizer.lr=0.01,1e30", "--jobs", "1"))
    assert code == 1 and "1 of 2 runs failed; the first: optimizer.lr=1e+30, seed 0: launch.py: the run has left" in err
    good, bad = (tmp_path / "out" / f"optimizer.lr={lr}" for lr in ("0.01", "1e+30"))
    inside = json.loads((good / "seed-0" / "result.json").read_text())
    alone = runs.run(tmp_path / "alone", {"optimizer": {"lr": 0.01}}, base=TINY)
    assert inside["weights_sha256"] == alone["weights_sha256"]
    assert sorted(p.name for p in good.iterdir()) == ["config-of-the-cell.toml", "seed-0"]
    assert "left the finite numbers" in (bad / "stderr-of-seed-0").read_text()
    table = json.loads((tmp_path / "out" / "sweep.json").read_text())
    assert table["best"] == "optimizer.lr=0.01" and [row["failed"] for row in table["cells"]] == [0, 1]


ENDS = [
    (signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.full),
    pytest.param(signal.SIGKILL, -9, marks=pytest.mark.full),
]  # fmt: skip


@pytest.mark.parametrize(("number", "status"), ENDS)
def test_an_end_before_the_end_stops_every_run_in_order_and_the_same_command_goes_on(tmp_path, number, status):
    words = ["train.epochs=12", "--sweep", "optimizer.lr=0.01", "--jobs", "1"]
    folder = tmp_path / "out" / "optimizer.lr=0.01" / "seed-0"
    with ended_at_last(start(tmp_path, *words, "chaos.stage_delay_s=0.3")) as process:
        until(lambda: process.poll() is not None or list(folder.glob("snapshots/step-*/manifest.json")))
        assert process.poll() is None, process.communicate(timeout=10)
        family = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(number)
        _, err = process.communicate(timeout=300)
    assert process.returncode == status, err
    assert psutil.wait_procs(family, timeout=10.0)[1] == []  # also of a command that could end nothing any more
    if number != signal.SIGKILL:
        assert f"Go on with the same command and --out {tmp_path}/out." in err
        assert json.loads((folder / "result.json").read_text())["status"] == "interrupted"
    code, out, err = call(*arguments(tmp_path, *words))
    assert (code, err) == (0, "") and "[1/1] optimizer.lr=0.01, seed 0: test accuracy" in out
    rows = [json.loads(line) for line in (folder / "record.jsonl").read_text().splitlines()]
    assert [row["epoch"] > 0 for row in rows if row["event"] == "resume"] == [True]
    alone = runs.run(tmp_path / "alone", {"train": {"epochs": 12}, "snapshot": {"every_epochs": 0}}, base=TINY)
    assert json.loads((folder / "result.json").read_text())["weights_sha256"] == alone["weights_sha256"]
