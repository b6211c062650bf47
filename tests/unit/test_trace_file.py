import json
import os
import pickle
from types import SimpleNamespace

import pytest

from pipeline.records.time_budget import Activity, TimeBudget
from pipeline.records.traced_budget import TracedBudget
from workers.trace_file import merge_parts, open_budget, save_part
from workers.trace_origin import TraceStart


@pytest.fixture
def job(tmp_path):
    """As far as traces look at one; stages of two blocks."""

    def make(stage, trace=TraceStart.now(), num_stages=2):
        return SimpleNamespace(process=stage, endpoint=SimpleNamespace(num_stages=num_stages),
                               blocks=range(2 * stage, 2 * stage + 2), out=tmp_path, trace=trace, name="")  # fmt: skip

    return make


def saved(job, limit=100):
    """A stage that has worked a little, and left its part."""
    budget = TracedBudget(limit)
    for activity in (Activity.FORWARD, Activity.LEARN, Activity.OTHER):
        budget.enter(activity)
    save_part(job, budget)
    return budget


def names(folder):
    return sorted(p.name for p in folder.iterdir())


def test_a_run_without_a_trace_has_the_plain_budget_and_writes_nothing(job, tmp_path):
    budget = open_budget(job(0, trace=None))
    assert type(budget) is TimeBudget
    save_part(job(0, trace=None), budget)
    save_part(job(0), budget)
    merge_parts(tmp_path)
    assert names(tmp_path) == []
    assert type(open_budget(job(0))) is TracedBudget


def test_parts_become_one_file(job, tmp_path):
    saved(job(1))
    saved(job(0))
    (tmp_path / ".trace-stage-7.part.123.part").write_bytes(b"of a stage that was stopped")
    assert "trace-stage-1.part" in names(tmp_path)
    merge_parts(tmp_path)
    assert names(tmp_path) == ["trace.json"]
    trace = json.loads((tmp_path / "trace.json").read_text(encoding="utf8"))
    about = trace["otherData"]
    assert trace["displayTimeUnit"] == "ms" and about["stages_missing"] == [] and about["stopped_early_us"] == {}
    assert about["aligned_by"] == {"0": "clock", "1": "clock"} and "before the first stage" in about["origin"]
    rows = [e["args"] for e in trace["traceEvents"] if e["name"] == "process_name"]
    assert [r["name"] for r in rows] == ["stage 0 (blocks 0-1)", "stage 1 (blocks 2-3)"]
    assert {r["os_pid"] for r in rows} == {os.getpid()}
    learned = [e for e in trace["traceEvents"] if e["name"] == "learn"]
    assert [e["pid"] for e in learned] == [1, 2] and all(e["ts"] > 0 for e in learned)


def test_what_is_missing_is_named(job, tmp_path):
    saved(job(1, num_stages=3))
    merge_parts(tmp_path)
    about = json.loads((tmp_path / "trace.json").read_text(encoding="utf8"))["otherData"]
    assert about["stages_missing"] == [0, 2]


def test_a_recording_that_stopped_early_says_when(job, tmp_path):
    saved(job(0))
    recording = saved(job(1), limit=2).recording()
    merge_parts(tmp_path)
    about = json.loads((tmp_path / "trace.json").read_text(encoding="utf8"))["otherData"]
    assert list(about["stopped_early_us"]) == ["1"] and len(recording.codes) == 2
    assert about["stopped_early_us"]["1"] == pytest.approx(1e6 * (recording.end_s - job(1).trace.clock_s), abs=1e-2)


def test_a_trace_that_cannot_be_written_costs_the_run_nothing(job, tmp_path, monkeypatch, caplog):
    saved(job(0))
    before = names(tmp_path)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    merge_parts(tmp_path)
    saved(job(1))
    assert "trace.json" not in names(tmp_path) and set(before) <= set(names(tmp_path))
    assert caplog.text.count("cannot write the trace (given: ") == 2 and "No space left" in caplog.text


class Planted:
    """A pickle that runs a command where it is read."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def test_a_planted_part_runs_nothing_and_is_left_out(job, tmp_path, caplog):
    saved(job(0))
    (tmp_path / "trace-stage-1.part").write_bytes(pickle.dumps(Planted(tmp_path / "run")))
    (tmp_path / "trace-stage-2.part").write_bytes(b"")
    (tmp_path / "trace-stage-3.part").mkdir()
    (tmp_path / "trace-stage-4.part").symlink_to(tmp_path / "trace-stage-0.part")
    os.mkfifo(tmp_path / "trace-stage-5.part")
    merge_parts(tmp_path)
    assert not (tmp_path / "run").exists()
    about = json.loads((tmp_path / "trace.json").read_text(encoding="utf8"))["otherData"]
    assert list(about["aligned_by"]) == ["0"]
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 5 and all("a part of the trace is left out (given: " in line for line in lines)


def test_a_part_of_numbers_without_meaning_costs_the_trace_only(job, tmp_path, caplog):
    budget = saved(job(0))
    budget.recording().starts_s[0] = float("nan")
    save_part(job(0), budget)
    merge_parts(tmp_path)
    assert names(tmp_path) == ["trace-stage-0.part"] and "cannot write the trace" in caplog.text
