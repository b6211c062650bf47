"""What a report knows of a run: from its folder, whoever wrote it, whether it has ended or not."""

import json

import pytest
from tests.support import report_runs, resumes, runs

from pipeline.errors import ConfigError
from workers.report import timeline
from workers.report.runs import read_report_run
from workers.report.sources import MOST_RUNS, read_sources
from workers.report.timeline import read_timeline


def test_a_run_that_has_ended(tmp_path):
    run = read_report_run(report_runs.a_run(tmp_path / "mine", late=0.5), "mine")
    assert (run.status, run.error, run.last_block, run.epochs) == ("completed", None, 3, 3)
    assert run.test == {"accuracy": 0.75, "loss": 0.5} and run.config["rule.name"] == "pred"
    assert run.of_output("train_loss") == {1: 1 / 4, 2: 1 / 5, 3: 1 / 6} and run.of_output("nothing") == {}
    first, second = run.stages
    assert (first.name, first.blocks, first.wall_s, first.busy) == ("stage 0", "blocks 0-1", 12.0, 0.75)
    assert second.busy == 0.25 and second.memory["parameter"] == 2**20 and second.memory["peak_device"] is None
    assert [(s.start_s, s.end_s) for s in second.slices] == [(0, 4), (4, 8), (8, 12)]
    assert all(sum(s.shares.values()) == pytest.approx(1) and s.shares["eval"] == 0.25 for s in second.slices)
    assert first.fill == {} and second.fill == {1: 1.5, 2: 1.5, 3: 1.5} and first.staleness == {1: 0.5, 2: 0.5, 3: 0.5}


def test_what_a_run_really_leaves_is_what_is_read(tmp_path):
    """The folders of the other tests are written by hand."""
    run = {"stages": 2, "partition": [2, 2], "trace": True}
    changes = {"measure": {"every": 1}, "run": run, "train": {"epochs": 1}}
    result = runs.run(tmp_path / "real", changes, base=resumes.TINY)
    run = read_report_run(tmp_path / "real", "real")
    assert run.status == "completed" and run.test == result["test"] and run.last_block == 3
    assert run.config["rule.name"] == "predsim" and run.header["command"] == [] and run.header["versions"]["torch"]
    assert [story.blocks for story in run.stages] == ["blocks 0-1", "blocks 2-3"]
    assert all(len(story.slices) == 1 and story.memory["parameter"] > 0 and story.busy > 0 for story in run.stages)
    assert set(run.timeline.whole) == set(run.timeline.closer) == {0, 1} and run.stages[0].staleness == {1: 0.0}
    assert set(run.scores) == {"train_loss", "train_accuracy", "test_loss", "test_accuracy"}
    assert set(run.measured.angles) == set(range(4)) and run.epochs == 1


def test_what_blocks_tell_of_their_gates(tmp_path):
    folder = report_runs.a_run(tmp_path / "mine", epochs=2, scores={"gate": 0.5, "axes": [0.1, 0.2, 0.9]})
    values = {"gate": 0.5, "axes_least": 0.1, "axes_median": 0.2, "axes_most": 0.9}
    found = read_report_run(folder, "mine").gates
    assert found == {name: {k: {1: value, 2: value} for k in range(4)} for name, value in values.items()}
    assert read_report_run(report_runs.a_run(tmp_path / "plain"), "plain").gates == {}


def test_what_a_gated_run_really_leaves(tmp_path):
    changes = {
        "gate": {"form": "G1", "probe_every": 2, "probe_samples": 8}, "schedule": {"mode": "gated"},
        "train": {"epochs": 1},
    }  # fmt: skip
    runs.run(tmp_path / "real", changes, base=resumes.TINY)
    found = read_report_run(tmp_path / "real", "real").gates
    assert set(found) == {"gate", "drift", "axes_least", "axes_median", "axes_most"}
    assert set(found["gate"]) == set(found["drift"]) == {0, 1, 2, 3} and set(found["axes_most"]) == {1, 2, 3}


def test_a_run_that_goes_on_is_known_by_its_record(tmp_path):
    folder = report_runs.a_run(tmp_path / "mine", result=[])
    (folder / "config.toml").unlink()
    with (folder / "record.jsonl").open("a") as record:
        record.write('{"event": "epo')  # breaks off
    run = read_report_run(folder, "mine")
    assert run.status == "unfinished" and run.test == {"accuracy": pytest.approx(0.7), "loss": 2 / 3}
    assert run.epochs == 3
    assert [story.busy for story in run.stages] == [0.75, 0.25] and run.config == {}


def test_a_run_that_has_just_begun(tmp_path):
    run = read_report_run(report_runs.a_run(tmp_path / "mine", epochs=0, result=[]), "mine")
    assert (run.status, run.test, run.stages, run.last_block, run.epochs) == ("unfinished", {}, [], None, 0)


def test_a_run_that_failed_says_why_also_where_the_disk_refused_the_result(tmp_path):
    failure = {"status": "failed", "error": "no luck"}
    run = read_report_run(report_runs.a_run(tmp_path / "one", result=failure), "one")
    assert (run.status, run.error) == ("failed", "no luck")
    folder = report_runs.a_run(tmp_path / "two", result=[])
    with (folder / "record.jsonl").open("a") as record:
        record.write(json.dumps({"event": "failure", **failure}) + "\n")
    assert read_report_run(folder, "two").error == "no luck"


def test_seconds_that_begin_anew_after_a_resume_are_added_up(tmp_path):
    folder = report_runs.a_run(tmp_path / "mine", result=[])
    again = {**report_runs.epoch_row(3, 0), "time": report_runs.seconds(1, 0)}
    with (folder / "record.jsonl").open("a") as record:
        record.write(json.dumps(again) + "\n")
    story = read_report_run(folder, "mine").stages[0]
    assert story.slices[-1].start_s == 12.0 and story.slices[-1].end_s == 16.0 and story.wall_s == 16.0


def test_replicas_are_told_apart(tmp_path):
    folder = report_runs.a_run(tmp_path / "mine", result=[])
    with (folder / "record.jsonl").open("a") as record:
        record.write(json.dumps({**report_runs.epoch_row(0, 1), "replica": 1}) + "\n")
    names = [story.name for story in read_report_run(folder, "mine").stages]
    assert names == ["stage 0", "stage 1, replica 0", "stage 1, replica 1"]


def test_metrics_of_a_task_are_curves_and_what_is_no_number_is_left_out(tmp_path):
    scores = {"test_metrics": {"mse": 0.25, "name": "x"}, "test_accuracy": None, "test_loss": "<b>"}
    run = read_report_run(report_runs.a_run(tmp_path / "mine", scores=scores), "mine")
    assert run.of_output("test_mse") == {1: 0.25, 2: 0.25, 3: 0.25}
    assert set(run.scores) == {"train_loss", "test_mse"}


WRONG = {
    "record.jsonl": '{"event": "epoch", "blocks": 3}\n', "result.json": "{", "config.toml": "[",
    "measurements.json": "[]",
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_read_as_a_run_is_one_message(tmp_path, name):
    folder = report_runs.a_run(tmp_path / "mine")
    (folder / name).write_text(WRONG[name])
    with pytest.raises(ConfigError, match="the folder cannot be read as that of a run .given: .*mine; .*Error"):
        read_report_run(folder, "mine")


def test_a_trace_gives_a_finer_time_line(tmp_path):
    folder = report_runs.traced(report_runs.a_run(tmp_path / "mine"))
    found = read_timeline(folder)
    assert {row: len(slices) for row, slices in found.whole.items()} == {0: 240, 1: 240}
    assert found.whole[0][-1].end_s == pytest.approx(10.0)
    shares = [s.shares.get("forward", 0.0) for s in found.whole[0]]
    assert shares[12] == pytest.approx(1.0) and shares[36] == 0.0 and sum(shares) == pytest.approx(120)
    closer = found.closer[1]
    assert closer[0].start_s == 0.0 and closer[-1].end_s == pytest.approx(8.0) and len(closer) == 8


def test_a_trace_that_is_too_long_or_not_ours_is_left_alone(tmp_path, monkeypatch):
    folder = report_runs.traced(report_runs.a_run(tmp_path / "mine"))
    monkeypatch.setattr(timeline, "MOST_BYTES", 100)
    assert read_timeline(folder).whole == {}
    monkeypatch.undo()
    (folder / "trace.json").write_text('{"traceEvents": [\n{"ph": "X", "oh"\n')
    assert read_timeline(folder).whole == {} and read_timeline(tmp_path).closer == {}


def test_names_are_as_short_as_they_can_be(tmp_path):
    folders = [tmp_path / "a" / "run", tmp_path / "b" / "run", tmp_path / "c"]
    for folder in folders:
        report_runs.a_run(folder)
    assert [run.name for run in read_sources(folders).runs] == ["a/run", "b/run", "c"]


def test_a_comparison_brings_its_runs(tmp_path):
    found = read_sources([report_runs.a_comparison(tmp_path / "cmp"), report_runs.a_run(tmp_path / "one")])
    assert [run.name for run in found.runs] == ["backprop/seed-0", "parallel/seed-0", "one"]
    assert [(name, folder) for name, folder, _ in found.tables] == [("compare.json", "cmp")] and found.num_left_out == 0


def test_runs_beyond_a_page_of_a_comparison_are_left_out_and_counted(tmp_path, monkeypatch):
    monkeypatch.setattr("workers.report.sources.MOST_RUNS", 1)
    found = read_sources([report_runs.a_comparison(tmp_path / "cmp")])
    assert len(found.runs) == 1 and found.num_left_out == 1


def test_folders_that_make_no_report(tmp_path):
    one = report_runs.a_run(tmp_path / "one")
    with pytest.raises(ConfigError, match="a folder is named twice .given: .*one, expected: once"):
        read_sources([one, one / ".." / "one"])
    with pytest.raises(ConfigError, match=f"too many runs for one page .given: {MOST_RUNS + 1}, expected: at most"):
        read_sources([tmp_path / str(number) for number in range(MOST_RUNS + 1)])
    with pytest.raises(ConfigError, match="this is not the folder of a run .given: .*none, expected: record.jsonl in"):
        read_sources([tmp_path / "none"])
    (tmp_path / "compare.json").write_text("{")
    with pytest.raises(ConfigError, match="cannot read a table of runs .given: .*compare.json"):
        read_sources([tmp_path])
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "compare.json").write_text("{}")
    with pytest.raises(ConfigError, match="no run is in this folder .given: .*empty, expected: one that has begun"):
        read_sources([tmp_path / "empty"])
