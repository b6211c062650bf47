"""Runs the command line as a user would, in a session of its own, and looks for what it leaves behind."""

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[2]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run"]


def start(*arguments, ranks=None, env=None, cwd=ROOT):
    """Starts ``launch.py``, under torchrun where ``ranks`` is given."""
    before = [sys.executable] if ranks is None else [*TORCHRUN, "--nproc-per-node", str(ranks)]
    return subprocess.Popen(
        [*before, str(ROOT / "launch.py"), *map(str, arguments)], cwd=cwd, text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, **(env or {})},
    )  # fmt: skip


def finish(process, timeout=90):
    """Exit status, standard output, standard error; and that no process of its session is left."""
    try:
        out, err = process.communicate(timeout=timeout)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, 9)
            process.communicate(timeout=10)
    assert left_of(process.pid, within=10) == []
    return process.returncode, out, err


def launch(*arguments, timeout=90, **kwargs):
    """Both in one."""
    return finish(start(*arguments, **kwargs), timeout)


def left_of(session, within):
    """Processes of ``session`` that are still there after up to ``within`` seconds."""
    deadline = time.monotonic() + within
    while True:
        left = [p for p in psutil.process_iter(["pid", "name", "status"]) if _belongs(p, session)]
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.1)


def _belongs(process, session):
    try:
        return os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE
    except (ProcessLookupError, psutil.NoSuchProcess):
        return False


def stages_of(process, count, within=60):
    """The pids of the stage processes of a running command: those that have opened the run's sockets or pipes.

    Children of the fork server, in the order in which they were started.
    """
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        found = _grandchildren(process.pid)
        if len(found) == count:
            return sorted(p.pid for p in found)
        time.sleep(0.05)
    raise AssertionError(f"{count} stage processes did not appear")


def _grandchildren(pid):
    """Processes may end while they are being counted: git is asked for the commit, for one."""
    found = []
    for child in psutil.Process(pid).children():
        try:
            found += child.children()
        except psutil.NoSuchProcess:
            continue
    return found
