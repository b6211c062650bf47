"""A disk that is full, read-only or broken wherever a run writes: the run goes on, and says so in a line."""

import errno
import json
import os
import tempfile
from pathlib import Path

import pytest
from tests.support.failing_disk import ERRORS, FailingDisk
from tests.support.runs import SMALL, merged, run, sha

from pipeline.config import Config
from pipeline.data import activation_cache
from pipeline.errors import ConfigError, DiskError, WorkerFailed
from pipeline.records.view import Silent
from pipeline.records.weights import load_blocks
from workers import cost_cache
from workers.launchers.inline import run_inline
from workers.placement import this_host
from workers.run import jobs_of, open_session
from workers.run_plan import plan_run

TWO = {"run": {"stages": 2}}
MEASURED = {"run": {"stages": 2}, "measure": {"every": 1}, "rule": {"name": "pred"}}
SEQUENTIAL = {"schedule": {"mode": "sequential", "cache": "file"}, "dataset": {"crop_padding": 0}, "run": {"stages": 2}}


@pytest.fixture(autouse=True)
def rescue(tmp_path, monkeypatch):
    """The second place of the runs of a test."""
    folder = tmp_path / "rescue"
    monkeypatch.setenv("ONWARD_RESCUE", str(folder))
    return folder


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The weights without any trouble."""
    return sha(tmp_path_factory.mktemp("undisturbed") / "run", TWO)


def said(caplog):
    return [record.message for record in caplog.records]


def result_of(folder):
    return json.loads((folder / "result.json").read_text())


def rows_of(*paths):
    return [json.loads(line) for path in paths for line in path.read_text().splitlines()]


@pytest.mark.parametrize("name", ERRORS)
def test_the_record(tmp_path, rescue, caplog, undisturbed, name):
    out = tmp_path / "run"
    with FailingDisk(name, r"record\.jsonl").put_in():
        table = run(out, TWO)
    assert table["weights_sha256"] == undisturbed and result_of(out)["status"] == "completed"
    (spare,) = rescue.iterdir()
    events = [row["event"] for row in rows_of(out / "record.jsonl", spare / "record.jsonl")]
    assert events == ["header", *["epoch"] * 4, "result"]
    assert len(said(caplog)) == 2 and os.strerror(getattr(errno, name)) in said(caplog)[0]


@pytest.mark.parametrize("moment", ["start", "end"])
@pytest.mark.parametrize("name", ERRORS)
@pytest.mark.parametrize("pattern", [r"run/snapshots/.*" + name for name in ("block", "block-003", "manifest")])
def test_the_final_weights(tmp_path, rescue, caplog, undisturbed, name, pattern, moment):
    out = tmp_path / "run"
    with FailingDisk(name, pattern, moment).put_in() as disk:
        table = run(out, TWO)
    assert disk.refused and table["weights_sha256"] == undisturbed
    (spare,) = rescue.iterdir()
    assert spare.name.startswith("rescued-run-") and spare.stat().st_uid == os.getuid()
    assert Path(table["folder"]) == spare / "snapshots" / f"step-{table['steps']}"
    assert result_of(out) == json.loads(json.dumps(table))
    assert len(load_blocks(Path(table["folder"]))) == 5
    assert [text for text in said(caplog) if f"they are in {table['folder']}" in text] == said(caplog)


def test_a_run_that_has_lost_its_stages_has_the_same_second_place(tmp_path, rescue, undisturbed):
    """Rows and weights in one folder, whose name nobody can know before; the folder for sockets is another one."""
    out = tmp_path / "run"
    plan = plan_run(Config.from_dict(merged(SMALL, TWO)), this_host(), out, tmp_path)
    disk = FailingDisk("ENOSPC", r"run/(record|\.?result|snapshots)").put_in()
    with disk, open_session(plan, out, tmp_path, None, ()) as session:
        first, folder = session.spare, session.folder
        for _ in range(2):
            session = session.restart(WorkerFailed(1, 2, "it died", is_lost=True))
        assert {job.spare for job in jobs_of(session)} == {first}
        # Side by side: paths of sockets that grew with each restart would be too long some day.
        assert {job.endpoint.folder for job in jobs_of(session)} == {f"{folder}/2"}
        run_inline(jobs_of(session), session.run_state)
        table = session.finish()
    assert table["weights_sha256"] == undisturbed and list(rescue.iterdir()) == [first]
    assert sorted(path.name for path in first.iterdir()) == ["record.jsonl", "result.json", "snapshots"]
    assert len(first.name) > len("rescued-run-") + 5


@pytest.mark.parametrize("moment", ["start", "end"])
def test_the_result(tmp_path, rescue, caplog, undisturbed, moment):
    out = tmp_path / "run"
    with FailingDisk("ENOSPC", r"run/\.?result\.json", moment).put_in():
        table = run(out, TWO)
    (spare,) = rescue.iterdir()
    assert table["weights_sha256"] == undisturbed and not (out / "result.json").exists()
    assert result_of(spare) == json.loads(json.dumps(table)) and "folder" not in table
    assert said(caplog) == [
        f"the run's folder does not take result.json (No space left on device): it is in {spare}"
    ]


def test_a_result_elsewhere_stays_the_result(tmp_path, rescue):
    """An interrupt behind the end changes nothing."""

    class Shown(Silent):
        def finished(self, table):
            raise KeyboardInterrupt

    with FailingDisk("ENOSPC", r"run/\.?result\.json", times=1).put_in(), pytest.raises(KeyboardInterrupt):
        run(tmp_path / "run", TWO, make_view=lambda *_: Shown())
    (spare,) = rescue.iterdir()
    assert result_of(spare)["status"] == "completed" and not (tmp_path / "run" / "result.json").exists()


def test_the_result_nowhere(tmp_path, caplog, undisturbed):
    with FailingDisk("EIO", r"result\.json").put_in():
        assert run(tmp_path / "run", TWO)["weights_sha256"] == undisturbed
    assert len(said(caplog)) == 1 and said(caplog)[0].startswith("result.json cannot be written (")


@pytest.mark.parametrize("name", ERRORS)
def test_the_whole_disk_from_the_start_of_training_on(tmp_path, rescue, caplog, undisturbed, name):
    out = tmp_path / "run"
    with FailingDisk(name, r"run/(record|\.?result|snapshots|measure)").put_in():
        table = run(out, TWO)
    assert table["weights_sha256"] == undisturbed
    (spare,) = rescue.iterdir()
    assert sorted(path.name for path in spare.iterdir()) == ["record.jsonl", "result.json", "snapshots"]
    left = sorted(path.name for path in out.iterdir() if path.is_file())
    assert left == ["config.toml", "network.json", "record.jsonl"]
    assert len(said(caplog)) == 4 and not any("Traceback" in text for text in said(caplog))


def test_no_disk_at_all(tmp_path, caplog):
    out = tmp_path / "run"
    with pytest.raises(DiskError, match=r"^the weights cannot be saved \(given: .*No space left.*; .*rescued-.*\)\. "
                                        r"Make room, or name a folder on another disk in \$ONWARD_RESCUE"):  # fmt: skip
        with FailingDisk("ENOSPC", "block-").put_in():
            run(out, TWO)
    assert result_of(out)["status"] == "failed" and said(caplog) == []


def test_weights_that_no_disk_declares_complete(tmp_path):
    with pytest.raises(DiskError, match=r"^the weights are saved and cannot be declared complete \(given: .*step-\d+: "
                                        r"No space left on device; .*\)\. Their blocks are in "):  # fmt: skip
        with FailingDisk("ENOSPC", "manifest").put_in():
            run(tmp_path / "run", TWO)
    assert len(list((tmp_path / "run").glob("snapshots/*/block-*"))) == 5


def test_a_failure_that_cannot_be_noted_is_the_failure_still(tmp_path, caplog):
    with FailingDisk("EROFS", r"result|block-").put_in(), pytest.raises(DiskError):
        run(tmp_path / "run", TWO)
    assert len(said(caplog)) == 1 and said(caplog)[0].startswith("result.json cannot be written (")


@pytest.mark.parametrize("moment", ["start", "end"])
def test_snapshots_on_the_way(tmp_path, caplog, undisturbed, moment):
    with FailingDisk("ENOSPC", r"step-(5|10|20)/", moment).put_in() as disk:
        table = run(tmp_path / "run", {**TWO, "snapshot": {"every_steps": 5}})
    assert disk.refused and table["weights_sha256"] == undisturbed
    assert len(said(caplog)) == 1 and said(caplog)[0].startswith("a snapshot cannot be written, and training goes on (")


@pytest.mark.parametrize("name", ERRORS)
def test_weights_to_be_measured(tmp_path, caplog, name):
    out = tmp_path / "run"
    with FailingDisk(name, r"measurements/epoch-[12]/.*block").put_in():
        table = run(out, {**MEASURED, "train": {"epochs": 3}})
    assert table["status"] == "completed"
    assert [row["epoch"] for row in json.loads((out / "measurements.json").read_text())["epochs"]] == [0, 3]
    assert len(said(caplog)) == 1 and said(caplog)[0].startswith("weights cannot be kept to be measured (")


def test_the_last_weights_are_measured_from_the_snapshot(tmp_path):
    out = tmp_path / "run"
    with FailingDisk("ENOSPC", r"measurements/epoch-2/.*block").put_in():
        run(out, MEASURED)
    assert [row["epoch"] for row in json.loads((out / "measurements.json").read_text())["epochs"]] == [0, 1, 2]


@pytest.mark.parametrize("pattern", [r"measurements\.json", r"epoch-1/.*manifest"])
def test_measurements(tmp_path, caplog, pattern):
    out = tmp_path / "run"
    with FailingDisk("EROFS", pattern).put_in() as disk:
        run(out, MEASURED)
    assert disk.refused and result_of(out)["status"] == "completed"
    assert said(caplog) == [
        f"the run is complete and its measurements are not ({out}: Read-only file system). Make room."
    ]


@pytest.mark.parametrize("name", ERRORS)
def test_the_activation_cache_is_switched_off(tmp_path, monkeypatch, caplog, name):
    wanted = sha(tmp_path / "wanted", SEQUENTIAL)
    real, left = activation_cache._reserve, [3]

    def reserve(descriptor, num_bytes):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(getattr(errno, name), os.strerror(getattr(errno, name)))
        real(descriptor, num_bytes)

    for stages, good in ((1, 0), (2, 3), ("blocks", 5)):
        left[0] = good
        caplog.clear()
        monkeypatch.setattr(activation_cache, "_reserve", reserve)
        assert sha(tmp_path / str(stages), {**SEQUENTIAL, "run": {"stages": stages}}) == wanted
        assert len(said(caplog)) == 1
        why = os.strerror(getattr(errno, name))
        assert said(caplog)[0].startswith(f"outputs of frozen blocks cannot be kept any more ({why})")


def test_costs(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("ONWARD_CACHE", str(tmp_path / "cache"))
    for name in ERRORS:
        with FailingDisk(name, "cache").put_in() as disk:
            cost_cache.keep("kind", {"a": 1}, 2)
        assert len(disk.refused) == 1 and cost_cache.recall("kind", {"a": 1}) is None
    cost_cache.keep("kind", {"a": 1}, 2)
    assert cost_cache.recall("kind", {"a": 1}) == 2 and said(caplog) == []


@pytest.mark.parametrize("pattern", [r"trace-stage", r"trace\.json"])
def test_traces(tmp_path, caplog, undisturbed, pattern):
    with FailingDisk("ENOSPC", pattern).put_in() as disk:
        table = run(tmp_path / "run", {"run": {"stages": 2, "trace": True}})
    assert disk.refused and table["weights_sha256"] == undisturbed
    assert said(caplog) and all(text.startswith("cannot write the trace (") for text in said(caplog))


def test_a_folder_that_takes_nothing_is_refused_before_the_run(tmp_path):
    for name in ERRORS:
        disk = FailingDisk(name, r"config\.toml")
        with disk.put_in(), pytest.raises(ConfigError, match="cannot write to the output"):
            run(tmp_path / name, TWO)


def test_the_second_place_is_the_systems_own_by_default(tmp_path, monkeypatch):
    monkeypatch.delenv("ONWARD_RESCUE")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    with FailingDisk("ENOSPC", r"run/snapshots/.*block").put_in():
        table = run(tmp_path / "run", TWO)
    assert Path(table["folder"]).is_relative_to(tmp_path / "temporary") and len(load_blocks(Path(table["folder"]))) == 5
