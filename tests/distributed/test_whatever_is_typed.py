"""What was found by fuzzing the command: each runs, or ends with one line and exit status 2."""

import json
import os
import pwd
import subprocess
import sys
import tempfile
from pathlib import Path

import launch as launcher
import pytest
from tests.support.command import ROOT, call, finish, launch

pytestmark = pytest.mark.distributed

QUICK = ["run.predict=false", "run.partition=parameters", "train.epochs=1", "--device", "cpu"]
INLINE = [*QUICK, "--transport", "inline"]

REFUSED = {
    "a width that is no number": (["model.width=nan"], "wrong value for model.width"),
    "a depth beyond all bounds": (["model.depth=1000000000"], "expected: at least 0, at most 1000"),
    "the largest integer": (["dataset.name=noise", "dataset.num_train=9223372036854775807"], "dataset.num_train"),
    "more samples than fit": (["dataset.name=noise", "dataset.num_train=2147483647"], "GiB for the data set"),
    "more digits than an int takes": (["seed=" + "9" * 5000], "wrong value for seed"),
    "a ring beyond all bounds": (["transport.depth=1000000000", "--stages", "2"], "transport.depth"),
    "a ring that does not fit": (["transport.depth=1000000", "train.batch_size=1400", "--stages", "2"],
                                 "GiB for messages in flight"),
    "borders larger than any image": (["dataset.crop_padding=1000000"], "dataset.crop_padding"),
    "threads beyond all bounds": (["run.threads=1000000"], "run.threads"),
    "brackets in brackets": (["seed=" + "[" * 5000], "wrong value for seed"),
    "an output folder whose name is too long": (["--out", "y" * 300], "File name too long"),
    "an output folder in a file": (["--out", "/etc/passwd/run"], "Choose another --out"),
    "a config that never ends": (["--config", "/dev/zero"], "it is longer than 1048576 bytes"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_in_one_line(tmp_path, name):
    arguments, text = REFUSED[name]
    code, out, err = call("--out", tmp_path / "run", *QUICK, *arguments)
    assert code == 2 and out == "" and text in err, err
    assert err.startswith("launch.py: ") and err.count("\n") == 1 and not (tmp_path / "run").exists()


def test_a_config_through_a_pipe_is_read(tmp_path):
    reading, writing = os.pipe()
    os.write(writing, b"[train]\nepoch = 3\n")
    os.close(writing)
    code, _, err = call("--config", f"/dev/fd/{reading}")
    os.close(reading)
    assert code == 2 and "unknown key (given: train.epoch" in err


def test_a_pipe_that_nobody_writes_is_not_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.config.run_config._PATIENCE_S", 0.05)
    os.mkfifo(tmp_path / "config.toml")
    code, _, err = call("--config", tmp_path / "config.toml")
    assert code == 2 and "nothing came through it" in err


def test_a_forbidden_parent_of_the_output_folder(tmp_path, monkeypatch):
    """Mocked, for the administrator may read everything."""
    real = Path.exists

    def exists(path):
        if path.name == "run":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(Path, "exists", exists)
    code, _, err = call("--out", tmp_path / "a" / "run", *INLINE)
    assert code == 2 and "cannot write to the output folder" in err and "Permission denied" in err
    assert err.count("\n") == 1


def test_without_a_home_it_runs(tmp_path, monkeypatch):
    monkeypatch.delenv("HOME")
    monkeypatch.delenv("ONWARD_DATA", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", lambda _: (_ for _ in ()).throw(KeyError()))
    assert launcher.default_data_root() == ROOT / "data"
    code, out, err = call("--out", tmp_path / "run", *INLINE)
    assert code == 0, err


def test_a_long_tmpdir_is_replaced(tmp_path, monkeypatch):
    long = tmp_path / ("x" * 110)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    code, _, err = call("--out", tmp_path / "run", *QUICK, "--stages", "2")
    assert code == 0, err
    assert list(long.iterdir()) == []


@pytest.mark.full
def test_a_long_tmpdir_of_a_fresh_process(tmp_path):
    """There the fork server's own socket is too long first."""
    long = tmp_path / ("x" * 110)
    long.mkdir()
    code, _, err = launch("--out", tmp_path / "run", *QUICK, "--stages", "2", env={"TMPDIR": str(long)})
    assert code == 0, err


def test_many_stages_with_few_files(tmp_path):
    """The limit is raised where the system lets it; here it does not."""
    command = (f"ulimit -n 256; exec {sys.executable} {ROOT / 'launch.py'} --out {tmp_path / 'run'} "
               f"model.depth=99 model.width=2 --stages blocks {' '.join(QUICK)}")  # fmt: skip
    code, out, err = finish(shell(command))
    assert code == 2 and "too few files may be open for so many stages (given: 100 stages, ulimit -n 256" in err, err
    assert out == "" and err.count("\n") == 1


@pytest.mark.parametrize("arguments", ["--list", "--help"])
def test_a_reader_that_has_seen_enough(arguments):
    command = f"{sys.executable} {ROOT / 'launch.py'} {arguments} | head -1; exit ${{PIPESTATUS[0]}}"
    code, out, err = finish(shell(command))
    assert (code, err) == (0, "") and out.count("\n") == 1


def test_a_command_that_writes_files_goes_on_without_its_reader(tmp_path):
    arguments = f"--against backprop --out {tmp_path / 'both'} {' '.join(INLINE)}"
    command = f"{sys.executable} {ROOT / 'launch.py'} {arguments} | true; exit ${{PIPESTATUS[0]}}"
    assert finish(shell(command)) == (0, "", "")
    assert (tmp_path / "both" / "compare.json").exists()


def test_a_full_standard_output_is_one_line():
    code, _, err = finish(shell(f"{sys.executable} {ROOT / 'launch.py'} --list > /dev/full"))
    assert code == 1 and "No space left on device" in err and err.count("\n") == 1


@pytest.mark.parametrize("closed", [pytest.param(">&-", marks=pytest.mark.full), "<&- >&- 2>&-"])
def test_closed_streams_stop_no_run(tmp_path, closed):
    """The first file that is opened would become standard output."""
    command = f"{sys.executable} {ROOT / 'launch.py'} --out {tmp_path / 'run'} {' '.join(INLINE)} {closed}"
    code, out, err = finish(shell(command))
    assert (code, out, err) == (0, "", "")
    assert (tmp_path / "run" / "result.json").exists()
    lines = (tmp_path / "run" / "record.jsonl").read_text().splitlines()
    assert json.loads(lines[0])["event"] == "header" and json.loads(lines[-1])["event"] == "result"


def shell(command):
    return subprocess.Popen(
        ["bash", "-c", command], cwd=ROOT, text=True, start_new_session=True, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )  # fmt: skip


def test_what_a_terminal_cannot_print_is_escaped():
    code, out, err = launch("--list", env={"PYTHONIOENCODING": "ascii"})
    assert code == 0 and "N\\xf8kland" in out, err


def test_what_the_system_refuses_is_one_line(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(launcher, "run", refuse)
    assert call()[::2] == (1, "launch.py: the system refused (OSError: [Errno 24] Too many open files)\n")
    monkeypatch.setattr(launcher, "run", lambda *_: (_ for _ in ()).throw(BrokenPipeError(32, "Broken pipe")))
    assert call()[::2] == (1, "launch.py: the system refused (BrokenPipeError: [Errno 32] Broken pipe)\n")
    monkeypatch.setattr(launcher, "run", lambda *_: (_ for _ in ()).throw(MemoryError()))
    assert call()[::2] == (1, "launch.py: the system refused (MemoryError: no memory)\n")
    monkeypatch.setattr(launcher, "run", lambda *_: (_ for _ in ()).throw(TimeoutError()))
    assert call()[::2] == (1, "launch.py: the system refused (TimeoutError)\n")
