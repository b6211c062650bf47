"""A run that fails says which stage, with its traceback, and leaves nothing running and nothing behind."""

import json
import os
import shutil
import signal
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import forkserver
from pathlib import Path

import psutil
import pytest
from tests.support.command import call, finish, launch, left_of, stages_of, start, started
from tests.support.segments import segments, segments_left

from workers.host.fork_server import warm_up

pytestmark = pytest.mark.distributed
LONG = ["train.epochs=2000", "--stages", "3", "run.predict=false"]


@pytest.fixture(autouse=True)
def temporary(monkeypatch):
    """A folder for the temporary files of the run, which must be empty afterwards; short, for sockets live there."""
    warm_up("digits")  # its socket must outlive this folder
    folder = Path(tempfile.mkdtemp(prefix="t"))
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    before = segments()
    yield folder
    left = [p.name for p in folder.glob("onward-*")]
    shutil.rmtree(folder)
    assert left == []
    assert segments_left(before) == []


@pytest.mark.parametrize(
    ("command", "transport"), [(call, "shared_memory"), (launch, "process_group")], ids=["here", "alone"]
)  # fmt: skip
def test_a_block_that_raises_in_training_is_named_with_its_traceback(tmp_path, command, transport):
    code, _, err = command(
        "--out", tmp_path / "run", "--transport", transport, "model.name=tests.support.bad_blocks.in_training",
        "--stages", "3", "run.partition=parameters",
    )  # fmt: skip
    assert code == 1
    assert "launch.py: [stage 1/3]" in err
    assert "RuntimeError: this block breaks down in training" in err and "bad_blocks.py" in err
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["status"] == "failed" and "breaks down" in result["error"]


def test_a_rank_that_raises_is_named_with_its_traceback(tmp_path):
    code, _, err = launch(
        "--out", tmp_path / "run", "model.name=tests.support.bad_blocks.in_training", "run.partition=parameters",
        ranks=3,
    )  # fmt: skip
    assert code == 1 and "[stage 1/3]" in err and "RuntimeError: this block breaks down in training" in err
    assert json.loads((tmp_path / "run" / "result.json").read_text())["status"] == "failed"


@pytest.mark.parametrize("transport", ["shared_memory", "process_group"])
@pytest.mark.parametrize("stage", [0, 1, 2])
def test_a_killed_stage_ends_the_run(tmp_path, stage, transport):
    """Killed by a thread, while the run has the main one."""
    record = tmp_path / "run" / "record.jsonl"
    with ThreadPoolExecutor(1) as pool:
        killing = pool.submit(kill_stage, record, stage)
        code, _, err = call("--out", tmp_path / "run", "--transport", transport, *LONG)
        killing.result()
    assert code == 1 and f"[stage {stage}/3]" in err and "died" in err and "SIGKILL" in err
    assert json.loads((tmp_path / "run" / "result.json").read_text())["status"] == "failed"


def kill_stage(record, stage):
    wait_for_epochs(record, lambda: None)
    server = psutil.Process(forkserver._forkserver._forkserver_pid)
    stages = sorted(server.children(), key=started)
    assert len(stages) == 3
    os.kill(stages[stage].pid, signal.SIGKILL)


def test_a_command_of_its_own_says_that_a_stage_was_killed(tmp_path):
    process = start("--out", tmp_path / "run", *LONG)
    pids = stages_of(process, 3)
    wait_for_epochs(tmp_path / "run" / "record.jsonl", process.poll)
    os.kill(pids[1], signal.SIGKILL)
    code, _, err = finish(process)
    assert code == 1 and "[stage 1/3]" in err and "died" in err
    assert json.loads((tmp_path / "run" / "result.json").read_text())["status"] == "failed"


ENDS = [(signal.SIGINT, 130), (signal.SIGTERM, 143), pytest.param(signal.SIGHUP, 129, marks=pytest.mark.full)]


@pytest.mark.parametrize(("number", "code"), ENDS)
def test_an_interrupted_run_stops_every_stage(tmp_path, number, code):
    process = start("--out", tmp_path / "run", *LONG)
    wait_for_epochs(tmp_path / "run" / "record.jsonl", process.poll)
    os.killpg(process.pid, number) if number is signal.SIGINT else os.kill(process.pid, number)
    found, _, err = finish(process)
    assert found == code and "Traceback" not in err
    assert json.loads((tmp_path / "run" / "result.json").read_text())["status"] == "interrupted"


def test_an_interrupt_while_the_fork_server_imports_is_one_line(tmp_path):
    process = start("--out", tmp_path / "run", *LONG)
    deadline = time.monotonic() + 60
    while not any("forkserver" in " ".join(cmdline_of(p)) for p in psutil.Process(process.pid).children()):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    found, _, err = finish(process)
    assert found == 130 and err == "launch.py: interrupted; every stage has been stopped\n"


def cmdline_of(process):
    """Empty when it has just ended."""
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:
        return []


def test_stages_end_when_their_parent_is_killed(tmp_path, temporary):
    process = start("--out", tmp_path / "run", *LONG)
    wait_for_epochs(tmp_path / "run" / "record.jsonl", process.poll)
    process.kill()
    process.communicate(timeout=10)
    assert left_of(process.pid, within=10) == []
    for folder in temporary.glob("onward-*"):  # nobody was left to remove it
        shutil.rmtree(folder)


def wait_for_epochs(record, ended, within=60):
    """Until the run has reported an epoch."""
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        assert ended() is None
        if record.exists() and '"event": "epoch"' in record.read_text():
            return
        time.sleep(0.05)
    raise AssertionError("no epoch was reported")
