"""``--plan``: the whole command, against runs whose times are emulated and so known."""

import json
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from tests.support.command import call

from workers.placement import this_host

pytestmark = pytest.mark.distributed

ROOT = Path(__file__).resolve().parents[2]
EMULATED = ["model.depth=3", "model.width=32", "model.norm=none", "rule.name=pred", "run.threads=1",
            "chaos.compute=sleep", "chaos.compute_s=0.02"]  # fmt: skip


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("ONWARD_CACHE", str(tmp_path_factory.mktemp("cache")))


def test_a_plan_is_printed_and_written_and_can_be_run(tmp_path):
    out = tmp_path / "plan"
    code, said, err = call("--plan", "--out", out, "--stages", "2", "--link", "1Gbit,50us", *EMULATED)
    assert code == 0 and "EMULATED COMPUTE" in said and "for at most 2 % loss" in said
    assert all("matplotlib" in line for line in err.splitlines())
    plan = json.loads((out / "plan.json").read_text())
    rows = {(row["schedule"], row["stages"]): row for row in plan["rows"]}
    assert list(rows) == [("onward", 2), ("1f1b", 2), ("gpipe", 2), ("ddp", 2), ("backprop", 1)]
    for key in (("onward", 2), ("backprop", 1)):
        # A machine that is busy makes sleeps longer; nothing makes them shorter.
        assert 0.0195 <= rows[key]["step_s"] and rows[key]["bottleneck"].startswith("stage")
    assert rows["gpipe", 2]["step_s"] >= 1.2 * 0.0195  # (2 + 4 - 1) / 4
    assert plan["link"] == {"bit_per_s": 1e9, "latency_s": pytest.approx(50e-6)}
    code, said, _ = call("--config", out / "plan.toml", "--out", tmp_path / "run", "train.epochs=1")
    assert code == 0 and "NOTHING WAS LEARNED" in said
    assert json.loads((tmp_path / "run" / "result.json").read_text())["num_stages"] == plan["best"]["stages"]


def test_a_planned_replica_can_be_run(tmp_path):
    emulated = [*EMULATED, "chaos.compute_s=[0.01,0.03]", "run.replicas=[1,3]"]
    out = tmp_path / "plan"
    code, said, err = call("--plan", "--out", out, "--stages", "2", "--replicas", "1,3", *emulated)
    assert code == 0 and "2x3" in said, err
    best = json.loads((out / "plan.json").read_text())["best"]
    assert (best["replicas"], best["microbatches"]) == ([1, 3], 3)
    code, _, err = call("--config", out / "plan.toml", "--out", tmp_path / "run", "--quiet", "train.epochs=1")
    assert code == 0, err
    assert json.loads((tmp_path / "run" / "result.json").read_text())["replicas"] == [1, 3]


def test_real_stages_are_measured_with_what_they_hold(tmp_path):
    real = ["model.depth=3", "model.width=32", "model.norm=none", "rule.name=fa", "run.threads=1", "train.epochs=1",
            "run.partition=[2,2]"]  # fmt: skip
    code, _, err = call("--plan", "--out", tmp_path / "plan", "--stages", "2", "--quiet", *real)
    assert code == 0, err
    (row,) = [r for r in json.loads((tmp_path / "plan" / "plan.json").read_text())["rows"] if r["schedule"] == "onward"]
    code, _, err = call("--out", tmp_path / "run", "--stages", "2", "--quiet", "run.predict=false", *real)
    assert code == 0, err
    stages = json.loads((tmp_path / "run" / "result.json").read_text())["stages"]
    for kind in ("parameter_bytes", "optimizer_bytes", "held_bytes"):
        assert [m[kind] for m in row["memory"]] == [s[kind] for s in stages]
    assert row["memory"][0]["queue_bytes"] == pytest.approx(stages[0]["queue_bytes"], rel=0.1)
    sent = [row["links"][0]["up_bytes"], row["links"][0]["down_bytes"]]
    steps = 1437 / 64  # the last batch of an epoch is smaller
    assert sent[1] * steps == pytest.approx(stages[1]["bytes_sent"], rel=0.02)


def test_what_this_machine_can_run_is_tried(tmp_path):
    stages = min(2 * this_host().cores, 8)  # which share cores, on most machines
    flags = [f"model.depth={stages - 1}", "model.width=8", "model.norm=none", "rule.name=pred", "run.threads=1",
             "run.device=cpu"]  # fmt: skip
    code, said, err = call("--plan", "--out", tmp_path / "plan", "--stages", stages, *flags)
    assert code == 0, err
    rows = json.loads((tmp_path / "plan" / "plan.json").read_text())["rows"]
    tried = {row["schedule"]: row["rehearsed"] for row in rows}
    assert tried == {"onward": True, "1f1b": True, "gpipe": True, "backprop": True, "ddp": False}
    assert said.count("(tried)") == 5 and "these processes ran here for a moment" in said
    assert all(0 < row["step_s"] < 10 for row in rows)


@pytest.mark.parametrize("compute", ["real", "sleep"])
def test_a_rule_that_learns_at_once_and_again_is_planned(tmp_path, compute):
    flags = ["model.depth=3", "model.width=32", "model.norm=none", "rule.name=dni", "run.threads=1",
             "run.partition=[1,2,1]", f"chaos.compute={compute}"]  # fmt: skip
    code, _, err = call("--plan", "--out", tmp_path / "plan", "--stages", "3", "--quiet", *flags)
    assert code == 0, err
    row = json.loads((tmp_path / "plan" / "plan.json").read_text())["rows"][0]
    assert row["schedule"] == "onward" and all(link["down_bytes"] > 0 for link in row["links"])


@pytest.mark.parametrize(
    ("flags", "told"),
    [(["--plan", "--link", "1Gbyte"], "cannot read the link"),
     (["--plan", "--stages", "99"], "cannot split 4 blocks into 99"),
     (["--plan", "--stages", "two"], "cannot read the numbers of stages"),
     (["--plan", "--hosts", "0"], "cannot read --hosts"), (["--plan", "--hosts", "1.5"], "cannot read --hosts"),
     (["--plan", "--device-speed", "fast"], "cannot read --device-speed"),
     (["--plan", "--replicas", "x"], "cannot read the replicas"), (["--hosts", "2"], "a run is not planned"),
     (["--device-speed", "2"], "given: --device-speed without --plan"),
     (["--plan", "--resume", "/nowhere"], "a plan resumes nothing")],
)  # fmt: skip
def test_bad_input_is_one_line_and_exit_status_2(tmp_path, flags, told):
    code, out, err = call(*flags, "--out", tmp_path / "plan", "model.depth=3")
    assert (code, out) == (2, "") and err.count("\n") == 1
    assert told in err


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    code, _, err = call("--plan", "--out", tmp_path / "file" / "plan", "--stages", "1", "--quiet", *EMULATED)
    assert code == 2 and "cannot write the plan" in err and err.count("\n") == 1


def test_a_plan_that_is_killed_leaves_nothing_behind(tmp_path):
    """Its processes that measure wait on a pipe that they hold themselves, which never ends."""
    flags = ["--plan", "--stages", "2", "--out", tmp_path / "plan", *EMULATED, "chaos.compute_s=5.0"]
    process = subprocess.Popen([sys.executable, ROOT / "launch.py", *map(str, flags)], stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)  # fmt: skip
    try:
        found: list[psutil.Process] = []
        until = time.monotonic() + 60
        while sum(map(is_server, found)) < 3:  # and two that measure, which it has forked
            assert process.poll() is None and time.monotonic() < until
            time.sleep(0.1)
            found = psutil.Process(process.pid).children(recursive=True)
    finally:
        process.kill()
        process.wait(10)
    assert psutil.wait_procs(found, timeout=20)[1] == []


def is_server(process):
    """Of forks, or one of them; False where it has just ended."""
    try:
        return "forkserver" in " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return False
