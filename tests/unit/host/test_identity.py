import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from workers.host.identity import ProcessIdentity


@pytest.fixture
def sleeper():
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    yield process
    process.kill()
    process.wait(10)


def until(condition):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_this_process_is_here_alive_and_not_stopped():
    own = ProcessIdentity.own()
    assert own.pid == os.getpid() and own.is_here and own.is_alive and not own.is_stopped
    assert ProcessIdentity.from_table(own.to_table()) == own == ProcessIdentity.of(os.getpid())


def test_a_process_is_stopped_goes_on_and_is_gone(sleeper):
    identity = ProcessIdentity.of(sleeper.pid)
    os.kill(sleeper.pid, signal.SIGSTOP)
    until(lambda: identity.is_stopped)
    assert identity.is_alive
    os.kill(sleeper.pid, signal.SIGCONT)
    until(lambda: not identity.is_stopped)
    os.kill(sleeper.pid, signal.SIGSTOP)
    identity.kill()
    assert sleeper.wait(10) == -signal.SIGKILL
    assert not identity.is_alive and not identity.is_stopped and ProcessIdentity.of(sleeper.pid) is None
    identity.kill()  # nobody's id by now, or another's


def test_a_dead_process_that_nobody_has_waited_for_is_gone(sleeper):
    identity = ProcessIdentity.of(sleeper.pid)
    sleeper.kill()
    until(lambda: not identity.is_alive)
    assert ProcessIdentity.of(sleeper.pid) is None


def test_an_id_used_again_is_another_process(sleeper):
    identity = ProcessIdentity.of(sleeper.pid)
    before = replace(identity, started=identity.started - 1)
    assert not before.is_alive
    before.kill()
    assert identity.is_alive


def test_a_process_of_another_host_cannot_be_seen():
    elsewhere = replace(ProcessIdentity.own(), kernel="another host")
    assert not elsewhere.is_here and not elsewhere.is_alive and not elsewhere.is_stopped


@pytest.mark.parametrize(
    "table",
    [None, [], "x", {}, {"kernel": "a", "pid": 1}, {"kernel": 1, "pid": 1, "started": 1},
     {"kernel": "a", "pid": "1", "started": 1}, {"kernel": "a", "pid": 0, "started": 1},
     {"kernel": "a", "pid": -1, "started": 1}, {"kernel": "a", "pid": 1, "started": None}],
)  # fmt: skip
def test_what_is_no_identity_is_refused(table):
    with pytest.raises(ValueError, match="no identity of a process"):
        ProcessIdentity.from_table(table)
