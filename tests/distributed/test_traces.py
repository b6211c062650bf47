"""The time budget of real processes adds up, and a trace shows what the budget booked."""

import json
from collections import Counter
from itertools import combinations, pairwise

import pytest
from tests.support.command import call, call_ranks
from tests.support.runs import run

from pipeline.records.chrome_trace import overlap_seconds
from pipeline.records.time_budget import Activity

pytestmark = pytest.mark.distributed
ACTIVITIES = [a.value for a in Activity]
LONG = {"model": {"width": 128}, "train": {"epochs": 6, "batch_size": 64}}
PLACEMENTS = {
    "spawned": {"run": {"stages": 2}, "transport": {"name": "shared_memory"}},
    "gloo": {"run": {"stages": 2}, "transport": {"name": "process_group"}},
    "inline": {"run": {"stages": 2}, "transport": {"name": "inline"}},
}


def changed(placement, **run_options):
    return {**LONG, **PLACEMENTS[placement], "run": {**PLACEMENTS[placement]["run"], **run_options}}


@pytest.fixture(scope="module", params=PLACEMENTS)
def traced(request, tmp_path_factory):
    """A run on two stages that kept a trace: its name, its folder, its result and the trace."""
    out = tmp_path_factory.mktemp(request.param) / "run"
    result = run(out, changed(request.param, trace=True))
    return request.param, out, result, read(out)


def read(out):
    return json.loads((out / "trace.json").read_text(encoding="utf8"))


def slices(trace, stage):
    return [e for e in trace["traceEvents"] if e["ph"] == "X" and e["pid"] == stage + 1]


def check(trace, num_stages):
    """What holds for every trace of a run that was completed."""
    events = trace["traceEvents"]
    assert trace["otherData"]["stages_missing"] == []
    assert {e["ph"] for e in events} <= set("MXsfC") and all(type(e["pid"]) is type(e["tid"]) is int for e in events)
    for stage in range(num_stages):
        found = slices(trace, stage)
        assert {e["name"] for e in found} <= set(ACTIVITIES) and found[0]["ts"] >= 0.0
        assert all(a["ts"] + a["dur"] <= b["ts"] for a, b in pairwise(found))
        whole = found[-1]["ts"] + found[-1]["dur"] - found[0]["ts"]
        assert sum(e["dur"] for e in found) == pytest.approx(whole, rel=0.01)
    starts = {e["id"]: e for e in events if e["ph"] == "s"}
    ends = {e["id"]: e for e in events if e["ph"] == "f"}
    assert starts.keys() == ends.keys()
    assert all(starts[i]["ts"] < ends[i]["ts"] and starts[i]["pid"] != ends[i]["pid"] for i in starts)
    return Counter((e["pid"] - 1, ends[i]["pid"] - 1) for i, e in starts.items())


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_the_time_budget_of_every_stage_adds_up_to_the_runs_own_clock(tmp_path, placement):
    result = run(tmp_path / "run", changed(placement))
    assert not (tmp_path / "run" / "trace.json").exists()
    rows = [json.loads(line) for line in (tmp_path / "run" / "record.jsonl").read_text().splitlines()]
    for stage in result["stages"]:
        reported = [row["time"] for row in rows if row["event"] == "epoch" and row["stage"] == stage["stage"]]
        assert len(reported) == result["epochs"]
        for times in [*reported, {f"{name}_s": stage[f"{name}_s"] for name in [*ACTIVITIES, "wall"]}]:
            assert sum(times[f"{name}_s"] for name in ACTIVITIES) == pytest.approx(times["wall_s"], rel=0.01)
        # A stage's clock starts with its first plan, which is sent when the run's has started, and the run's ends when
        # the last stage's last report has come: whatever the machine does meanwhile, none is longer than the run's.
        walls = [times["wall_s"] for times in reported]
        assert 0.0 < walls[0] and walls == sorted(walls) and walls[-1] <= result["wall_s"]
        assert walls[-1] <= stage["wall_s"]


def test_a_trace_is_whole(traced):
    _, _, result, trace = traced
    arrows = check(trace, 2)
    per_epoch = -(-1437 // 64) + -(-360 // 64)
    assert arrows == {(0, 1): result["epochs"] * per_epoch}


def test_a_trace_adds_up_to_the_time_budget(traced):
    """Of each activity; what came before the run's clock started is one interval of other and one of waiting."""
    _, _, result, trace = traced
    for row in result["stages"]:
        found = slices(trace, row["stage"])
        end = found[-1]["ts"] + found[-1]["dur"]
        during = [e for e in found if e["ts"] >= end - 1e6 * row["wall_s"] - 100.0]
        assert sum(e["dur"] for e in during) == pytest.approx(1e6 * row["wall_s"], rel=0.01)
        for name in ("forward", "learn", "eval", "wait_send"):
            total = sum(e["dur"] for e in found if e["name"] == name)
            assert total == pytest.approx(1e6 * row[f"{name}_s"], rel=0.01, abs=1000.0)


def test_stages_learn_at_the_same_time_in_processes_and_never_in_turns(traced):
    placement, _, result, trace = traced
    both = overlap_seconds(trace, 0, 1, Activity.LEARN)
    if placement == "inline":
        assert both == 0.0
    else:
        assert 0.0 < both <= min(stage["learn_s"] for stage in result["stages"])


def test_a_trace_leaves_no_parts_and_changes_no_weight(traced, tmp_path):
    placement, out, result, _ = traced
    assert list(out.glob("*.part")) == []
    assert run(tmp_path / "run", changed(placement))["weights_sha256"] == result["weights_sha256"]


@pytest.mark.parametrize("stages", [2, 4])
def test_stages_learn_from_a_broadcast_error_at_the_same_time(tmp_path, stages):
    """What dfa promises: no stage waits for the one above to have learned. Each overlaps with every other."""
    changes = {
        "rule": {"name": "dfa"}, "transport": {"name": "shared_memory"}, "run": {"stages": stages, "trace": True},
        "model": {"name": "mlp", "depth": 8, "width": 256, "norm": "none", "activation": "tanh"},
        "train": {"epochs": 6, "batch_size": 96, "in_flight": 4},
    }  # fmt: skip
    run(tmp_path / "run", changes)
    trace = read(tmp_path / "run")
    for one, other in combinations(range(stages), 2):
        assert overlap_seconds(trace, one, other, Activity.LEARN) > 0.0, (one, other)


def test_feedback_has_arrows_too(tmp_path):
    changes = {"rule": {"name": "dfa"}, "run": {"stages": 3, "trace": True}, "transport": {"name": "shared_memory"}}
    result = run(tmp_path / "run", changes)
    arrows = check(read(tmp_path / "run"), 3)
    assert arrows[2, 0] == arrows[2, 1] == result["steps"]


def test_ranks_share_a_time_line(tmp_path):
    arguments = ["--quiet", "--trace", "--out", tmp_path / "run", "train.epochs=2", "run.threads=1"]
    assert call_ranks(2, tmp_path, *arguments) == [(0, "", "")] * 2
    trace = read(tmp_path / "run")
    assert sum(check(trace, 2).values()) > 0
    assert len({e["args"]["os_pid"] for e in trace["traceEvents"] if e["name"] == "process_name"}) == 2
    assert list((tmp_path / "run").glob("*.part")) == []


def test_a_stage_that_fails_leaves_its_trace(tmp_path):
    code, _, _ = call(
        "--quiet", "--trace", "--out", tmp_path / "run", "model.name=tests.support.bad_blocks.in_training",
        "--stages", "3", "run.partition=parameters",
    )  # fmt: skip
    assert code == 1
    trace = read(tmp_path / "run")
    assert 1 not in trace["otherData"]["stages_missing"]
    assert slices(trace, 1)[-1]["name"] in ACTIVITIES and len(slices(trace, 1)) > 2
