"""Stages that are stopped, and stages whose parent, agent or fork server is killed: named in time, and none is left."""

import json
import os
import re
import shutil
import signal
import tempfile
import threading
import time
from pathlib import Path

import pytest
from tests.support.command import call
from tests.support.deaths import Victim, kill, stop
from tests.support.folders import short_folder
from tests.support.segments import segments, segments_left

from workers.host.fork_server import warm_up

pytestmark = pytest.mark.distributed
full = pytest.mark.full
BOTH = ("shared_memory", "process_group")
LIMIT_S = 20.0


@pytest.fixture(autouse=True)
def no_segment_left():
    before = segments()
    yield
    assert segments_left(before) == []


@pytest.mark.parametrize(
    ("num_stages", "stage", "transport", "torchrun"),
    [pytest.param(2, 1, "shared_memory", False)]
    + [pytest.param(2, 1, "shared_memory", True, marks=full)]
    + [pytest.param(3, 1, "shared_memory", False, marks=full), pytest.param(2, 0, "process_group", True, marks=full)]
    + [pytest.param(3, s, t, r, marks=full) for s in range(3) for t in BOTH for r in (False, True)],
)
def test_a_stopped_stage_is_named_and_the_job_ends(num_stages, stage, transport, torchrun):
    found = stop(num_stages, stage, transport, torchrun)
    assert re.search(rf"launch\.py: \[stage {stage}/{num_stages}\] its process was stopped by a signal", found.line)
    assert found.code == 1 and found.gone_s is not None and found.left == []
    if torchrun:  # its own report begins with the same stage
        first = found.report.partition("Root Cause (first observed failure)")[2]
        assert f"[stage {stage}/{num_stages}] its process was stopped by a signal" in first


@pytest.mark.parametrize(
    ("whom", "transport", "torchrun", "stopped"),
    [pytest.param("parent", "shared_memory", False, True)]
    + [pytest.param("agent", "process_group", True, True, marks=full)]
    + [pytest.param(w, t, w == "agent", s, marks=full)
       for w in ("parent", "server", "agent") for t in BOTH for s in (False, True)],
)  # fmt: skip
def test_nothing_is_left_of_a_run_whose_head_was_killed(whom, transport, torchrun, stopped):
    found = kill(2, whom, transport, torchrun, stopped)
    assert found.gone_s is not None and found.left == []


@pytest.mark.parametrize("transport", [BOTH[0], pytest.param(BOTH[1], marks=full)])
def test_an_agent_that_is_told_to_end_interrupts_the_run(transport):
    victim = Victim(2, transport, torchrun=True)
    victim.root.send_signal(signal.SIGTERM)
    victim.process.wait(LIMIT_S)
    result = json.loads(victim.result())
    found = victim.end(time.monotonic())
    assert result["status"] == "interrupted", result
    assert found.left == [] and "launch.py: [stage" not in found.report


def test_a_block_that_hangs_is_named_with_what_it_was_doing(tmp_path):
    code, _, err = call(
        "--out", tmp_path / "run", "model.name=tests.support.bad_blocks.hanging", "--stages", "3",
        "run.partition=parameters", "run.timeout_s=3", "run.predict=false",
    )  # fmt: skip
    assert code == 1
    text = r"launch\.py: \[stage 1/3\] it has been in forward of step \d+ for \d s.* \(run\.timeout_s: 3\.\) Raise it"
    assert re.search(text, err), err


def held():
    """What this process holds: open files, threads, folders for runs."""
    folders = sorted(Path(tempfile.gettempdir()).glob("onward-*"))
    return len(os.listdir("/proc/self/fd")), threading.active_count(), folders


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs /proc")
@pytest.mark.parametrize("cycles", [2, pytest.param(50, marks=full)])
@pytest.mark.parametrize("transport", BOTH)
@pytest.mark.parametrize("num_stages", [2, 4])
def test_starts_and_stops_leave_nothing(tmp_path, monkeypatch, transport, num_stages, cycles):
    """One process starts and stops the stages again and again; the second run opens what stays open."""
    warm_up("digits")  # its socket must outlive this folder
    counts = []
    with short_folder() as temporary:  # a longer path would be left for the system's own
        monkeypatch.setattr(tempfile, "tempdir", str(temporary))
        for cycle in range(cycles + 1):
            arguments = ["--quiet", "--transport", transport, "--stages", num_stages, "train.epochs=1"]
            arguments += ["run.predict=false"]
            code, _, err = call("--out", tmp_path / f"run-{cycle}", *arguments)
            assert code == 0, err
            counts.append(held())
            shutil.rmtree(tmp_path / f"run-{cycle}")
    assert counts[1:] == [counts[1]] * cycles and counts[1][2] == []
