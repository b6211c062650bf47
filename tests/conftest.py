"""What every test starts from, and what the whole run must leave behind: nothing.

Cases marked ``full`` are left out unless ``--full`` is given. Tests start from the same seed, on one thread. A child
process that is still there after the last test is killed and reported as an error, and the run ends with a count of
what was skipped and why.
"""

import os
import signal
from collections import Counter
from multiprocessing import forkserver, resource_tracker

import psutil
import pytest
import torch
from tests.support.segments import segments, segments_left

ENDING_S = 5.0
"""A process that a test has told to end may need a moment."""


# Where no device is in use, torch.manual_seed writes down its caller for each kind of device: .7 ms below pytest.
_seed = torch.manual_seed if torch.cuda.is_available() else torch.default_generator.manual_seed


def pytest_addoption(parser):
    parser.addoption("--full", action="store_true", help="take the cases marked full, too")


def pytest_collectstart(collector):
    """A module that draws weights where it lists its cases draws the same ones whatever was collected before it."""
    if isinstance(collector, pytest.Module):
        _seed(0)


def pytest_collection_modifyitems(config, items):
    """Leaves out what is marked ``full``; naming a single test takes it."""
    if config.getoption("--full") or any("::" in argument for argument in config.args):
        return
    rest = [item for item in items if item.get_closest_marker("full")]
    if rest:
        config.hook.pytest_deselected(items=rest)
        items[:] = [item for item in items if not item.get_closest_marker("full")]


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory):
    """What runs find out about this machine is neither read from nor written to the user's cache."""
    before = os.environ.get("ONWARD_CACHE")
    os.environ["ONWARD_CACHE"] = str(tmp_path_factory.mktemp("cache"))  # processes of the tests have it too
    yield
    if before is None:
        del os.environ["ONWARD_CACHE"]
    else:
        os.environ["ONWARD_CACHE"] = before


@pytest.fixture(autouse=True)
def _same_start():
    _seed(0)
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _own_signals():
    """A command that a test calls takes signals into its own hands; the next test, and whoever ends the suite, would
    meet its handlers."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def nothing_left(tmp_path):
    """For tests of transports: no file, shared segment or process is left, however the stages ended."""
    before, files = segments(), os.listdir(tmp_path)
    yield
    assert segments_left(before) == []
    assert os.listdir(tmp_path) == files
    assert leftover_processes() == {}


@pytest.fixture(autouse=True, scope="session")
def _no_process_left():
    yield
    left = leftover_processes()
    if left:
        kill(left)
        found = "\n".join(left.values())
        pytest.fail(f"processes of the tests are left (given: {len(left)}, expected: 0):\n{found}", pytrace=False)


def leftover_processes():
    """Children of this process at any depth, and what they are; multiprocessing's two servers may stay."""
    servers = {forkserver._forkserver._forkserver_pid, resource_tracker._resource_tracker._pid}
    children = [p for p in psutil.Process().children(recursive=True) if p.pid not in servers]
    _, alive = psutil.wait_procs(children, timeout=ENDING_S)
    return {p: describe(p) for p in alive}


def describe(process):
    try:
        return f"{process.pid}, of {process.ppid()}: {' '.join(process.cmdline())}"
    except psutil.Error:
        return f"{process.pid}"


def kill(processes):
    for process in processes:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(processes, timeout=ENDING_S)


def pytest_terminal_summary(terminalreporter):
    reports = terminalreporter.stats.get("skipped", [])
    reasons = Counter(str(r.longrepr[2]).removeprefix("Skipped: ") for r in reports if isinstance(r.longrepr, tuple))
    terminalreporter.section(f"{reasons.total()} tests skipped")
    for reason, count in sorted(reasons.items()):
        terminalreporter.line(f"{count} skipped: {reason}")
