"""A run's folder, and the runner that has no processes."""

import json
import signal
import sys
import tomllib

import pytest
from tests.support.runs import run

from pipeline.config import Config
from pipeline.engine.program import Program
from pipeline.engine.requests import Receive
from pipeline.errors import ConfigError
from pipeline.records.snapshot_keeper import SnapshotKeeper
from pipeline.records.view import Silent
from pipeline.records.weights import latest_weights, load_blocks
from workers import rescue
from workers import run as run_module
from workers.host.out_folder import check_out

TIMES = ["forward_s", "learn_s", "wait_recv_s", "wait_send_s", "transfer_s", "eval_s", "other_s"]
STAGE = {
    "stage", "pid", "blocks", *TIMES, "wall_s", "samples", "peak_rss_bytes", "peak_device_bytes", "parameter_bytes",
    "optimizer_bytes", "held_bytes", "queue_bytes", "bytes_sent",
    "bytes_per_step", "staleness", "replica",
}  # fmt: skip
RESULT = {
    "status", "mode", "rule", "model", "dataset", "num_stages", "num_blocks", "transport", "device",
    "threads_per_stage", "seed", "epochs", "steps", "wall_s", "train_samples_per_s", "test", "blocks", "stages",
    "weights_sha256", "restarts", "predicted", "wire", "replicas", "selection",
}  # fmt: skip


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    run(folder, {"run": {"stages": 2}})
    return folder


def test_names_in_the_result_are_those_that_scripts_read(out):
    table = json.loads((out / "result.json").read_text())
    assert set(table) == RESULT
    assert set(table["test"]) == {"accuracy", "loss"}
    assert set(table["blocks"][0]) == {"block", "stage", "test_accuracy", "epochs_trained", "frozen_at_epoch"}
    assert [set(stage) for stage in table["stages"]] == [STAGE, STAGE]


def test_the_time_budget_adds_up(out):
    for stage in json.loads((out / "result.json").read_text())["stages"]:
        assert sum(stage[name] for name in TIMES) == pytest.approx(stage["wall_s"], rel=1e-9)
        assert all(stage[name] >= 0 for name in TIMES) and stage["learn_s"] > 0 and stage["eval_s"] > 0


def test_the_written_config_repeats_the_run(out, tmp_path):
    table = tomllib.loads((out / "config.toml").read_text())
    again = run(tmp_path / "again", base=table)
    assert again["weights_sha256"] == json.loads((out / "result.json").read_text())["weights_sha256"]
    assert Config.from_dict(table).to_dict()["rule"] == {
        "name": "predsim", "beta": 0.99, "dimdec": 2048, "unsupervised": "none", "alpha": 0.0,
    }  # fmt: skip


def test_the_record_begins_with_what_is_needed_to_judge_it(out):
    rows = [json.loads(line) for line in (out / "record.jsonl").read_text().splitlines()]
    assert [row["event"] for row in rows] == ["header", *["epoch"] * 4, "result"]
    assert {"versions", "commit", "cpu", "cores", "threads_per_stage", "command", "config"} <= set(rows[0])
    assert "environ" not in json.dumps(rows[0])
    assert all({"stage", "epoch", "blocks", "samples", "time", "staleness"} <= set(row) for row in rows[1:-1])


def test_weights_are_saved_per_block(out):
    blocks = load_blocks(latest_weights(out))
    assert len(blocks) == 5 and "block.body.linear.weight" in blocks[0]


def test_a_run_is_never_overwritten(out):
    before = (out / "result.json").read_text()
    with pytest.raises(ConfigError, match="the output folder is taken"):
        run(out)
    assert (out / "result.json").read_text() == before


def test_a_file_in_the_way(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="expected: a new or empty folder"):
        check_out(tmp_path / "file")
    with pytest.raises(ConfigError, match="cannot write to the output folder"):
        run(tmp_path / "file" / "run", data_root=tmp_path)


def test_a_circle_of_waits_is_an_error_at_once(tmp_path, monkeypatch):
    def waits(self):
        yield Receive(1 - self.stage_index)

    monkeypatch.setattr(Program, "run", waits)
    edges = {"rule": {"name": "backprop"}, "run": {"stages": 2}}
    with pytest.raises(RuntimeError, match="every stage waits for another"):
        run(tmp_path / "run", edges)
    assert json.loads((tmp_path / "run" / "result.json").read_text())["status"] == "failed"


def test_a_transport_that_declares_one_process_and_is_none(tmp_path):
    name = "tests.support.not_in_process"
    with pytest.raises(ConfigError, match=r"connects the stages of one process and cannot \(given: Absent, expected"):
        run(tmp_path / "run", {"transport": {"name": name}})


class Shown(Silent):
    """A view whose last act is ``end``."""

    def __init__(self, end):
        self.finished = lambda table: end()


def raising(error):
    def end():
        raise error

    return end


def completed(folder):
    """The status in ``result.json``, and that the weights are declared complete and can be read."""
    assert len(load_blocks(latest_weights(folder))) == 5
    return json.loads((folder / "result.json").read_text())["status"]


@pytest.fixture
def ended_by_sigterm():
    """The process leaves at SIGTERM as launch.py does."""
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    yield
    signal.signal(signal.SIGTERM, before)


def test_a_view_that_fails_at_the_end_fails_alone(tmp_path, caplog):
    error = UnicodeEncodeError("ascii", "\u00e9", 0, 1, "ordinal not in range(128)")
    table = run(tmp_path / "run", make_view=lambda *_: Shown(raising(error)))
    assert table["status"] == completed(tmp_path / "run") == "completed"
    assert "the run is complete and cannot be shown: 'ascii' codec can't encode character" in caplog.text


@pytest.mark.parametrize("moment", ["manifest", "write_json", "finished"])
def test_a_signal_while_a_run_is_finished_leaves_it_finished(tmp_path, monkeypatch, ended_by_sigterm, moment):
    def interrupting(write):
        def act(*args):
            signal.raise_signal(signal.SIGTERM)
            return write(*args)

        return act

    if moment == "manifest":
        monkeypatch.setattr(SnapshotKeeper, "finish", interrupting(SnapshotKeeper.finish))
    elif moment == "write_json":
        monkeypatch.setattr(rescue, moment, interrupting(rescue.write_json))
    view = Shown(interrupting(lambda: None) if moment == "finished" else lambda: None)
    with pytest.raises(SystemExit):
        run(tmp_path / "run", make_view=lambda *_: view)
    assert completed(tmp_path / "run") == "completed"
    rows = [json.loads(line) for line in (tmp_path / "run" / "record.jsonl").read_text().splitlines()]
    assert rows[-1]["event"] == "result"


def test_a_signal_before_the_end_is_an_interrupted_run(tmp_path, monkeypatch, ended_by_sigterm):
    monkeypatch.setattr(run_module, "validate", lambda *_: signal.raise_signal(signal.SIGTERM))
    with pytest.raises(SystemExit), monkeypatch.context() as patched:
        patched.setattr(run_module, "note_failure", lambda out, recorder, error, **_: noted.append(str(error)))
        noted = []
        run(tmp_path / "run")
    assert noted == ["143"] and not (tmp_path / "run" / "result.json").exists()


def test_an_interrupt_while_the_view_is_closed_leaves_no_folder(tmp_path, monkeypatch):
    class Slow(Silent):
        def close(self):
            raise KeyboardInterrupt

    made, new_folder = [], run_module.new_folder
    monkeypatch.setattr(run_module, "new_folder", lambda: made.append(new_folder()) or made[-1])
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "run", make_view=lambda *_: Slow())
    assert completed(tmp_path / "run") == "completed" and len(made) == 1 and not made[0].exists()
