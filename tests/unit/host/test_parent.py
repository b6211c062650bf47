"""A process and its parent's death, on Linux."""

import signal
import subprocess
import sys
import time

import psutil
import pytest

from workers.host.parent import die_with_parent

CHILD = """
import os, signal, sys, time
from workers.host.parent import die_with_parent
print(os.getpid(), die_with_parent(), flush=True)
if sys.argv[1] == "stopped":
    os.kill(os.getpid(), signal.SIGSTOP)
time.sleep(60)
"""
PARENT = "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', *sys.argv[1:]]); time.sleep(60)"
linux = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")


@linux
@pytest.mark.parametrize("state", ["running", "stopped"])
def test_the_child_of_a_killed_parent_ends(state):
    parent = subprocess.Popen([sys.executable, "-c", PARENT, CHILD, state], stdout=subprocess.PIPE, text=True)
    pid, done = parent.stdout.readline().split()
    child = psutil.Process(int(pid))
    assert done == "True"
    deadline = time.monotonic() + 10
    while state == "stopped" and child.status() != psutil.STATUS_STOPPED:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    parent.kill()
    parent.wait(10)
    parent.stdout.close()
    gone, _ = psutil.wait_procs([child], timeout=10)
    assert gone or child.status() == psutil.STATUS_ZOMBIE


@linux
def test_a_parent_that_died_before_is_noticed():
    code = "from workers.host.parent import die_with_parent; die_with_parent(1); print('still here')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert done.returncode == -signal.SIGKILL and done.stdout == ""


def test_elsewhere_nothing_is_done(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert die_with_parent() is False


@pytest.mark.parametrize("lives", [True, False])
def test_a_process_that_was_forked_for_one_that_is_gone_ends(lives):
    """The server that forks is gone by then, too, so that no parent tells it. Before that it goes on."""
    code = """
import os, sys, time
from types import SimpleNamespace
from workers.host import parent
reader, writer = os.pipe()
parent.parent_process = lambda: SimpleNamespace(sentinel=reader)
parent.end_with_starter()
if sys.argv[1] == "False":
    os.close(writer)
    time.sleep(60)
parent.parent_process = lambda: None
parent.end_with_starter()
print("still here")
"""
    done = subprocess.run([sys.executable, "-c", code, str(lives)], capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout) == ((0, "still here\n") if lives else (1, ""))
