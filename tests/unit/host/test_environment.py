"""What a run ran on."""

import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from workers.host import environment
from workers.host.environment import run_header

HERE = Path(__file__).resolve()
needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="git required")


def test_the_header_says_what_ran_where_and_nothing_of_the_environment(monkeypatch):
    monkeypatch.setenv("ONWARD_TEST_SECRET", "do-not-record-me")
    header = run_header(("launch.py", "--quiet"), {"seed": 3}, threads=2, num_stages=4)
    text = json.dumps(header)
    assert "do-not-record-me" not in text and "ONWARD_TEST_SECRET" not in text
    assert header["event"] == "header"
    assert header["command"] == ["launch.py", "--quiet"] and header["config"] == {"seed": 3}
    assert (header["threads_per_stage"], header["num_stages"]) == (2, 4)
    assert header["python"] == platform.python_version()
    assert header["versions"]["torch"] == torch.__version__
    assert set(header) == {
        "event", "command", "config", "python", "platform", "versions", "cuda", "commit", "cpu", "cores",
        "threads_per_stage", "num_stages", "memory_bytes", "devices", "predicted",
    }  # fmt: skip


def test_a_package_that_is_not_there_has_no_version():
    assert environment._version("onward-no-such-package") is None


def test_the_root_holds_both_packages_and_the_launcher():
    """Commits and the digest that guards the cost cache are asked of it: one folder off, both go wrong in silence."""
    assert (environment.ROOT / "launch.py").exists() and environment.ROOT in HERE.parents
    assert {p.name for p in environment.ROOT.iterdir()} >= {"pipeline", "workers"}


@pytest.fixture
def own_git(monkeypatch):
    """Neither the user's settings, which may ask for signatures, nor a hook's repository, if one runs the tests."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")


def repository(folder):
    """A repository with one commit."""
    (folder / "file").write_text("a")
    for arguments in (["init", "-q"], ["add", "file"],
                      ["-c", "user.name=t", "-c", "user.email=t@t", "commit", "-q", "-m", "t"]):  # fmt: skip
        subprocess.run(["git", "-C", str(folder), *arguments], check=True)
    done = subprocess.run(["git", "-C", str(folder), "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@needs_git
def test_commit_of_this_code(tmp_path, monkeypatch, own_git):
    head = repository(tmp_path)
    monkeypatch.setattr(environment, "ROOT", tmp_path)
    assert environment.commit() == head[:12]
    (tmp_path / "file").write_text("b")
    assert environment.commit() == f"{head[:12]}-dirty"


@needs_git
def test_another_repository_around_this_code_is_not_its_own(tmp_path, monkeypatch, own_git):
    repository(tmp_path)
    installed = tmp_path / "lib"
    installed.mkdir()
    monkeypatch.setattr(environment, "ROOT", installed)
    assert environment.commit() is None


def refuses(error):
    def run(*args, **kwargs):
        raise error

    return run


@pytest.mark.parametrize("error", [FileNotFoundError("git"), subprocess.TimeoutExpired("git", 10)], ids=repr)
def test_no_commit_without_git(monkeypatch, error):
    monkeypatch.setattr(environment.subprocess, "run", refuses(error))
    assert environment.commit() is None


def test_the_processor_has_a_name(monkeypatch):
    assert environment.cpu_name()
    monkeypatch.setattr(sys, "platform", "other")
    assert environment.cpu_name() == (platform.processor() or platform.machine())
