"""The throughput benchmark: its arms, how they end, what is made of their figures."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from benchmarks import throughput
from benchmarks.arms import catalogue, launch, onward, stopwatch, turns, work
from benchmarks.arms.catalogue import ArmHost, Impossible
from benchmarks.arms.job import ArmJob
from benchmarks.arms.launch import Outcome
from benchmarks.arms.turns import ThroughputArm, ThroughputSettings
from benchmarks.presets import PRESETS, Preset
from pipeline.config import NamedConfig
from pipeline.data.batches import Batches
from pipeline.resolve import load_dataset

TINY = Preset(
    name="tiny", model=NamedConfig(name="mlp", options={"depth": 2, "width": 16, "norm": "none"}),
    sample_shape=(8,), batch_size=10, num_samples=50, microbatches=(2, 4),
)  # fmt: skip
COSTS = {"local": [1.0, 1.0, 0.5], "backprop": [1.0, 3.0, 3.0]}


def job(**changes):
    return ArmJob(**{"module": "nowhere", "preset": TINY, "precision": "highest", **changes})


# -- arms --------------------------------------------------------------------------------------------------------


def test_every_arm_is_cut_by_its_own_costs():
    found = catalogue.jobs(job(), COSTS, ArmHost(cores=6, num_gpus=0))
    assert list(found) == [
        "onward-1", "onward-2", "onward-4", "same-rule-1", "backprop", "ddp", "torch-gpipe-2", "torch-gpipe-4",
        "torch-1f1b-2", "torch-1f1b-4", "onward-gpipe", "onward-1f1b",
        "onward-pipedream",
    ]  # fmt: skip
    assert found["onward-2"].partition == (1, 2) and found["onward-gpipe"].partition == (2, 1)
    assert found["torch-1f1b-4"].partition == (2, 1) and found["torch-1f1b-4"].microbatches == 4
    assert found["onward-4"] == Impossible("3 blocks make no 4 stages")
    assert {n: j.threads for n, j in found.items() if isinstance(j, ArmJob) and j.threads != 1} == {
        "same-rule-1": 6, "backprop": 6,
    }  # fmt: skip


def test_one_gpu_has_no_arms_of_two_ranks():
    template = job(preset=TINY.on("cuda"))
    found = catalogue.jobs(template, COSTS, ArmHost(cores=6, num_gpus=1))
    impossible = {name for name, arm in found.items() if isinstance(arm, Impossible) and "one GPU" in arm.why}
    assert impossible == {n for n in found if n.startswith(("ddp", "torch-"))}
    assert catalogue.matmul_job(template, ArmHost(6, 1)).processes == 1
    assert catalogue.matmul_job(template, ArmHost(6, 8)).processes == 2
    assert catalogue.matmul_job(job(), ArmHost(6, 0)).processes == 2
    assert isinstance(catalogue.jobs(template, COSTS, ArmHost(6, 2))["ddp"], ArmJob)


def test_arms_are_chosen_by_name_or_by_what_stands_before_a_hyphen():
    names = ["onward-1", "onward-1f1b", "torch-gpipe-2", "torch-gpipe-4", "ddp"]
    assert catalogue.selected(names, []) == names
    assert catalogue.selected(names, ["ddp", "torch-gpipe", "onward-1"]) == [
        "onward-1", "torch-gpipe-2", "torch-gpipe-4", "ddp",
    ]  # fmt: skip
    with pytest.raises(ValueError, match=r"unknown arm \(given: pipedream, expected: onward-1, .*Correct or remove"):
        catalogue.selected(names, ["pipedream"])


def test_other_arms_meet_the_batches_that_ours_meet():
    resolved = work.resolved_work(job())
    dataset = load_dataset(resolved.config, None)
    ours = Batches(dataset.load()[0], dataset=dataset, batch_size=10, seed=resolved.config.seed, device="cpu",
                   train=True)  # fmt: skip
    whole, lower, upper = (work.ArmBatches(resolved, torch.device("cpu"), *part) for part in ((), (0, 2), (1, 2)))
    for step in range(12):
        x, y = ours.batch(*divmod(step, 5))
        chosen = whole.advance()
        assert torch.equal(whole.inputs(chosen), x) and torch.equal(whole.labels(chosen), y)
        parts = [feed.inputs(feed.advance()) for feed in (lower, upper)]
        assert torch.equal(torch.cat(parts), x) and len(parts[0]) == 5


# -- how an arm ends -----------------------------------------------------------------------------------------------

HANGS = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
with open(sys.argv[1], "w") as file:
    file.write(str(child.pid))
time.sleep(600)
"""


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def written(path):
    """The id in a file that may not be there, or be empty; 0 then."""
    return int(path.read_text() or 0) if path.exists() else 0


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_hang_is_killed_with_all_its_processes(tmp_path):
    """An interpreter that has not even begun within the limit, as on a busy machine, is given a longer one."""
    command = [sys.executable, "-c", HANGS, str(tmp_path / "pid")]
    for limit_s in (2.0, 8.0, 32.0):
        assert launch.supervise(command, dict(os.environ), tmp_path / "stderr", limit_s) is None
        if pid := written(tmp_path / "pid"):
            break
    deadline = time.monotonic() + 30.0
    while is_running(pid):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_signal_in_the_middle_of_a_wait_does_not_hold_up_the_end(tmp_path, monkeypatch):
    """Where a handler raises just behind its acquire, CPython's Popen keeps its lock for ever."""
    waited, seen = subprocess.Popen.wait, []

    def interrupted(process, timeout):
        monkeypatch.setattr(subprocess.Popen, "wait", waited)
        process._waitpid_lock.acquire()
        seen.append(process)
        raise SystemExit(143)

    monkeypatch.setattr(subprocess.Popen, "wait", interrupted)
    monkeypatch.setattr(launch, "ENDING_S", 0.2)
    command = [sys.executable, "-c", "import time; time.sleep(60)"]
    with pytest.raises(SystemExit, match="143"):
        launch.supervise(command, dict(os.environ), tmp_path / "stderr", 30.0)
    seen[0]._waitpid_lock.release()
    assert seen[0].wait(10.0) == -signal.SIGKILL


def test_a_hang_is_reported_and_its_arm_given_up(monkeypatch):
    monkeypatch.setattr(launch, "supervise", lambda *_: None)
    arm = ThroughputArm(job(), ThroughputSettings(limit_s=7.0))
    assert math.isnan(arm())
    monkeypatch.setattr(turns, "run", None)  # whoever calls it now fails
    assert math.isnan(arm())
    entry = arm.entry()
    assert entry["samples_per_s"] is None and entry["all"] == [None, None]
    assert (entry["status"], entry["note"]) == ("hang", "no result after 7 s")


RANKS = """
from benchmarks.arms.ranks import run_ranks
def fail(job, rank):
    if rank.index == 1:
        raise ValueError("no luck\\nat all")
    rank.agree(1)
def main(job):
    return run_ranks(fail, job)
"""


@pytest.mark.distributed
def test_a_crash_is_reported_with_its_last_line(tmp_path, monkeypatch):
    (tmp_path / "unlucky.py").write_text(RANKS)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    outcome = launch.run(job(module="unlucky", processes=2), 60.0)
    assert (outcome.status, outcome.note) == ("crash", "rank 1: ValueError: no luck")


def test_the_last_line_is_not_torchs_farewell():
    assert launch.last_line("Traceback\nValueError: no\n[W1120 x.cpp] destroy_process_group() was not called\n\n") == (
        "ValueError: no"
    )
    assert launch.last_line("[W1] only a warning\n") == "[W1] only a warning" and launch.last_line("") == ""


# -- figures -------------------------------------------------------------------------------------------------------


def test_windows_are_equal_and_about_as_long_as_asked():
    assert stopwatch.plan(3.0, 0.01) == (6, 50)
    assert stopwatch.plan(0.5, 0.2) == (2, 1)
    assert stopwatch.plan(0.5, 2.0) == (1, 1)


def test_a_loop_is_timed_in_the_number_of_steps_agreed_upon():
    steps = []
    found = stopwatch.timed(lambda: steps.append(1), amount=8, seconds=0.01, agree=lambda count: 2)
    assert len(steps) == 3 + 2 + 2 + 2 * 2  # cold, probe, warm-up, two windows of two
    assert len(found["windows"]) == 2 and found["steps_per_window"] == 2
    assert found["samples_per_s"] == pytest.approx(sum(found["windows"]) / 2)


def row(stage, wall_s, **spent):
    return {"event": "epoch", "stage": stage, "time": {"forward_s": 0.0, "learn_s": 0.0, "wall_s": wall_s, **spent}}


def test_the_figure_leaves_out_warm_up_and_the_evaluated_epoch():
    # The last stage's epochs end at 5, 6, 7, 9, 10 and, with the evaluation, 30.
    rows = [{"event": "header"}]
    for epoch, end in enumerate([5.0, 6.0, 7.0, 9.0, 10.0, 30.0]):
        rows.append(row(0, end, forward_s=0.25 * epoch, learn_s=0.5 * epoch))
        rows.append(row(1, end, forward_s=0.25 * epoch, learn_s=1.0 * epoch if epoch < 5 else 100.0))
    found = onward.figures(rows, warm=1, num_samples=100)
    assert found["windows"] == [100.0, 100.0, 50.0, 100.0] and found["samples_per_s"] == 100.0
    assert found["efficiency"] == pytest.approx((0.25 + 1.0) * 4 / 5.0)  # stage 1, 4 epochs in 5 s
    assert found["timed"][0]["learn_s"] == 2.0 and found["timed"][1]["wall_s"] == 5.0


def test_replicas_of_a_stage_are_processes_of_one_run():
    rows = [{**row(0, float(end)), "process": process, "replica": process} for end in range(1, 7) for process in (0, 1)]
    found = onward.figures(rows, warm=2, num_samples=10)
    assert found["windows"] == [10.0] * 3 and len(found["timed"]) == 2


def test_long_measurements_are_cut_into_a_few_windows():
    rows = [row(0, float(end)) for end in range(1, 17)]
    found = onward.figures(rows, warm=2, num_samples=10)
    assert found["windows"] == [10.0] * 6  # of two epochs each; the rest and the last are left out


def test_a_run_is_as_long_as_its_rate_asks_for():
    assert onward.epochs_for(job(seconds=3.0, rate=50.0)) == (1, 1 + 3 + 1)
    assert onward.epochs_for(job(seconds=3.0, rate=500.0)) == (2, 2 + 30 + 1)  # ten steps are two epochs
    assert onward.epochs_for(job(seconds=0.5, rate=10.0)) == (1, 1 + 2 + 1)


def test_the_bubble_is_what_the_busiest_stage_does_not_work():
    stages = [
        {"forward_s": 3.0, "learn_s": 4.0, "transfer_s": 1.0, "wait_send_s": 9.0, "eval_s": 0.0},
        {"forward_s": 3.0, "learn_s": 3.0, "transfer_s": 0.5, "wait_send_s": 0.0, "eval_s": 2.0},
    ]
    assert onward.bubble({"wall_s": 12.0, "stages": stages}) == pytest.approx(0.2)


def entry(*rates, **more):
    return {"samples_per_s": sorted(rates)[len(rates) // 2] if rates else None, "all": list(rates), **more}


def test_ratios_are_medians_over_rounds_and_torch_is_its_best():
    entries = {
        "onward-2": entry(10.0, 30.0, 12.0), "backprop": entry(5.0, 10.0, 12.0), "ddp": entry(2.0, 2.0, 2.0),
        "torch-gpipe-4": {"samples_per_s": None, "all": [None] * 3},
        "torch-gpipe": entry(4.0, 4.0, 4.0), "torch-1f1b": entry(5.0, 5.0, 5.0),
    }  # fmt: skip
    found = throughput.ratios(entries)
    assert found["ratios"] == {"torch_pipelining": 2.4, "backprop": 2.0, "ddp": 6.0}
    assert found["ratios_all"]["backprop"] == {"median": 2.0, "min": 1.0, "max": 3.0, "all": [2.0, 3.0, 1.0]}
    assert found["ratios_all"]["torch-gpipe-4"] is None and "onward-2" not in found["ratios_all"]
    nothing = throughput.ratios({"onward-2": {"samples_per_s": None, "all": [None]}, "ddp": entry(2.0)})
    assert nothing["ratios"] == {"torch_pipelining": None, "backprop": None, "ddp": None}


def test_our_arms_first_run_as_a_whole_and_then_know_their_rate(monkeypatch):
    told = []

    def run(job, limit_s):
        told.append((job.epochs, job.rate, limit_s))
        if job.epochs:
            return Outcome("ok", {"samples_per_s": 100.0, "bubble": 0.01, "steps": 200, "stages": []})
        rate = [150.0, 120.0][len(told) - 2]
        return Outcome("ok", {"samples_per_s": rate, "windows": [rate], "efficiency": 0.9, "stages": []})

    monkeypatch.setattr(turns, "run", run)
    arm = ThroughputArm(job(module="benchmarks.arms.onward", partition=(1, 2)), ThroughputSettings(limit_s=60.0))
    assert [arm(), arm()] == [150.0, 120.0]
    assert told == [(40, 0.0, 240.0), (0, 100.0, 60.0), (0, 150.0, 60.0)]
    found = arm.entry()
    assert (found["samples_per_s"], found["all"], found["bubble"]) == (135.0, [150.0, 120.0], 0.01)
    assert (found["partition"], found["processes"], found["windows"]) == ([1, 2], 2, [[150.0], [120.0]])


def test_the_table_for_people_has_a_ratio_for_every_arm():
    found = {
        "preset": "tiny", "matmul": {"flop_per_s": 2e9}, "matmul_fraction": 0.5,
        "arms": {
            "onward-2": entry(10.0, min=9.0, max=11.0, status="ok", efficiency=0.95, bubble=0.02),
            "ddp": entry(5.0, min=4.0, max=6.0, status="ok"),
            "torch-gpipe-4": entry(status="hang", min=None, max=None, note="no result after 60 s"),
        },
        "ratios_all": {"ddp": {"median": 2.0, "min": 1.5, "max": 2.5}, "torch-gpipe-4": None},
    }  # fmt: skip
    assert throughput.markdown(found).splitlines()[2:] == [
        "| onward-2 | 10 | 9 - 11 |  | efficiency 95.0 %, bubble 2.0 % |",
        "| ddp | 5 | 4 - 6 | 2.00 (1.50 - 2.50) |  |",
        "| torch-gpipe-4 | hang |  |  | no result after 60 s |",
        "",
        "Matrix products: 2 GFLOP/s; onward-2 reaches 50 % of it.",
    ]


# -- the command ---------------------------------------------------------------------------------------------------


def test_mistakes_are_told_before_anything_runs(monkeypatch, capsys):
    monkeypatch.setattr(throughput, "run", lambda *_: Outcome("ok", COSTS))
    monkeypatch.setitem(PRESETS, "tiny", TINY)
    with pytest.raises(SystemExit):
        throughput.main(["--preset", "tiny", "--arms", "horovod"])
    assert "unknown arm (given: horovod" in capsys.readouterr().err
    if not torch.cuda.is_available():
        with pytest.raises(SystemExit):
            throughput.main(["--preset", "vgg8b"])
        assert "there is no CUDA device here (preset: vgg8b" in capsys.readouterr().err
    monkeypatch.setattr(throughput, "run", lambda *_: Outcome("crash", note="no room"))
    with pytest.raises(RuntimeError, match=r"what the blocks cost \(preset: tiny, crash: no room\)\. Fix that"):
        throughput.main(["--preset", "tiny"])


@pytest.mark.distributed
@pytest.mark.full
def test_a_preset_from_end_to_end(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(PRESETS, "tiny", TINY)
    out = tmp_path / "tiny.json"
    arguments = ["--preset", "tiny", "--rounds", "1", "--seconds", "0.1", "--out", str(out)]
    assert throughput.main([*arguments, "--arms", "onward-2,onward-4,ddp,torch-1f1b-2"]) == 0
    assert "| onward-2 | " in capsys.readouterr().out
    found = json.loads(out.read_text())
    assert {"preset", "arms", "ratios", "matmul_fraction", "environment"} <= set(found)
    assert set(found["arms"]) == {"onward-2", "onward-4", "ddp", "torch-1f1b-2", "torch-1f1b"}
    assert {n: e["status"] for n, e in found["arms"].items() if e["status"] != "ok"} == {"onward-4": "impossible"}
    ours = found["arms"]["onward-2"]
    assert ours["all"] == [ours["samples_per_s"]] and len(ours["stages"]) == 2
    assert 0 < ours["efficiency"] and ours["bubble"] < 1 and ours["bubble_steps"] == 200
    assert found["ratios"]["ddp"] == pytest.approx(ours["samples_per_s"] / found["arms"]["ddp"]["samples_per_s"])
    assert found["ratios"]["torch_pipelining"] > 0 and found["ratios"]["backprop"] is None
    assert found["matmul_fraction"] > 0 and found["environment"]["matmul_precision"] == "medium"
