"""A slow start is no failure, a view that nobody reads holds up no run, and a folder belongs to one run."""

import json
import os
import pty
import subprocess
import sys
import termios
import time

import pytest
from tests.support.command import ROOT, finish, start
from tests.support.runs import run

from pipeline.errors import WorkerFailed

pytestmark = pytest.mark.distributed

SLOW = {"dataset": {"name": "tests.support.slow_data", "seconds": 2.5}, "train": {"epochs": 1},
        "rule": {"name": "pred"}}  # fmt: skip
QUICK = ["run.predict=false", "run.partition=parameters", "--device", "cpu", "--stages", "2"]


def stages(transport, **limits):
    return {**SLOW, "run": {"stages": 2, **limits}, "transport": {"name": transport}}


@pytest.mark.parametrize("transport", ["shared_memory", "process_group"])
def test_slow_data_does_not_end_a_good_start(tmp_path, transport):
    """Reading takes longer than any wait while training may."""
    assert run(tmp_path / "run", stages(transport, timeout_s=1.0))["status"] == "completed"


@pytest.mark.parametrize("transport", ["shared_memory", "process_group"])
def test_a_start_has_a_limit_of_its_own(tmp_path, transport):
    with pytest.raises(WorkerFailed, match=r"did not (open its end|meet) within 0\.3 s|run\.start_timeout_s: 0\.3"):
        run(tmp_path / "run", stages(transport, start_timeout_s=0.3))


NO_COMPILER = """
import sys
from pathlib import Path
from pipeline.config import Config
from tests.support.runs import SMALL, merged
from workers.run import train
config = Config.from_dict(merged(SMALL, {"optimizer": {"name": "sgd"}}))
train(config, out=Path(sys.argv[1]), data_root=Path(sys.argv[1]))
print([name for name in ("torch._dynamo", "torch._inductor") if name in sys.modules])
"""


def test_a_start_imports_no_compiler(tmp_path):
    """It takes as long as torch itself, in every process; :mod:`pipeline.optim.eager` says what asks for it."""
    command = [sys.executable, "-c", NO_COMPILER, str(tmp_path / "run")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def result(out):
    return json.loads((out / "result.json").read_text())


def ended(process, out, within=60.0):
    """Waits for a process whose output nobody reads; exit status, and that the run is complete."""
    try:
        code = process.wait(within)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, 9)
            process.wait(10)
    assert result(out)["status"] == "completed"
    return code


def launched(out, *arguments, **streams):
    command = [sys.executable, str(ROOT / "launch.py"), "--out", str(out), *QUICK, *arguments]
    return subprocess.Popen(command, cwd=ROOT, start_new_session=True, **streams)


@pytest.mark.full
def test_a_pipe_that_nobody_reads_holds_up_no_run(tmp_path):
    """400 lines of 100 bytes each are more than the 4 KiB that this pipe holds."""
    import fcntl

    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    process = launched(tmp_path / "run", "model.depth=1", "model.width=4", "train.epochs=400", "train.batch_size=1437",
                       "model.norm=none", stdout=writing, stderr=writing)  # fmt: skip
    os.close(writing)
    assert ended(process, tmp_path / "run") == 0
    assert os.read(reading, 100).startswith(b"predsim on digits")
    os.close(reading)


def test_a_stopped_terminal_holds_up_no_run(tmp_path):
    """What Ctrl-S does, with the live table."""
    reading, writing = pty.openpty()
    termios.tcflow(writing, termios.TCOOFF)
    process = launched(tmp_path / "run", "train.epochs=8", stdout=writing, stderr=subprocess.PIPE,
                       env={**os.environ, "TERM": "xterm"})  # fmt: skip
    assert ended(process, tmp_path / "run") == 0
    assert process.stderr.read() == b""
    process.stderr.close()
    os.close(writing)
    os.close(reading)


@pytest.mark.full
def test_a_slow_reader_gets_the_end(tmp_path):
    process = start("--out", tmp_path / "run", *QUICK, "train.epochs=3")
    deadline = time.monotonic() + 60
    while not (tmp_path / "run" / "result.json").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    code, out, _ = finish(process)
    assert code == 0 and out.splitlines()[-1].startswith("done: ") and len(out.splitlines()) == 5


@pytest.mark.full
def test_of_two_runs_at_once_one_gets_the_folder(tmp_path):
    both = [start("--out", tmp_path / "run", *QUICK, "train.epochs=20") for _ in range(2)]
    outcomes = sorted(finish(process) for process in both)
    assert [code for code, *_ in outcomes] == [0, 2]
    _, out, err = outcomes[1]
    assert out == "" and err.count("\n") == 1 and ("another run writes" in err or "is taken" in err)
    assert result(tmp_path / "run")["status"] == "completed"
    rows = [json.loads(line)["event"] for line in (tmp_path / "run" / "record.jsonl").read_text().splitlines()]
    assert rows.count("header") == rows.count("result") == 1


def test_two_runs_without_a_name_in_one_second(tmp_path, monkeypatch):
    import launch
    from tests.support.command import call

    monkeypatch.setattr("workers.host.out_folder.time.strftime", lambda _: "now")
    monkeypatch.setattr(launch, "HERE", tmp_path)
    (tmp_path / "configs").mkdir()
    arguments = ["--config", ROOT / "configs" / "digits.toml", *QUICK, "--transport", "inline", "train.epochs=1"]
    assert [call(*arguments)[0] for _ in range(2)] == [0, 0]
    assert call(*arguments, "--stages", "9")[0] == 2  # and leaves no empty folder
    assert sorted(p.name for p in (tmp_path / "runs").iterdir()) == ["digits-now", "digits-now-2"]
