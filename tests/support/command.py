"""Runs the command line: as a user would, in a session of its own; in this process; or as ranks without torchrun.

An interpreter takes seconds to import torch. Where the text, the exit status or the result is what is tested,
:func:`call` and :func:`call_ranks` run the same ``launch.main`` in processes that have imported it already.
"""

import contextlib
import io
import os
import subprocess
import sys
import time
from pathlib import Path
from unittest import mock

import launch as launcher
import psutil
from tests.support.processes import left_running, results
from torch.distributed import TCPStore

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


def call(*arguments, env=None):
    """``launch.main`` in this process: exit status, standard output, standard error; and no process is left."""
    out, err = io.StringIO(), io.StringIO()
    command = ["launch.py", *map(str, arguments)]
    with mock.patch.dict(os.environ, env or {}), mock.patch.object(sys, "argv", command):
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                code = launcher.main(command[1:])
            except SystemExit as end:  # argparse
                code = end.code
    assert left_running() == []
    return code, out.getvalue(), err.getvalue()


def refused(*arguments, env=None):
    """What a command that is the user's mistake says, in one line, before it ends with status 2."""
    code, out, err = call(*arguments, env=env)
    assert (code, out, err.count("\n")) == (2, "", 1) and err.startswith("launch.py: "), (code, out, err)
    return err


def call_ranks(num_ranks, folder, *arguments, timeout=90.0):
    """``launch.main`` as the ranks of one host, with torchrun's variables and store: for each rank what it says."""
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    return results(_rank, num_ranks, folder, num_ranks, store.port, list(map(str, arguments)), timeout=timeout)


def _rank(rank, folder, num_ranks, port, arguments):
    os.environ.update({
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(num_ranks), "LOCAL_WORLD_SIZE": str(num_ranks),
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "TORCHELASTIC_USE_AGENT_STORE": "True",
    })  # fmt: skip
    return call(*arguments)


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
            return [p.pid for p in sorted(found, key=started)]
        time.sleep(0.05)
    raise AssertionError(f"{count} stage processes did not appear")


def started(process):
    """Sorts processes by their start: ids begin anew when the system has run out of them."""
    return process.create_time(), process.pid


def _grandchildren(pid):
    """Processes may end while they are being counted: git is asked for the commit, for one."""
    found = []
    for child in psutil.Process(pid).children():
        try:
            found += child.children()
        except psutil.NoSuchProcess:
            continue
    return found
