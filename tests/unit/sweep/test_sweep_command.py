"""--sweep, with runs in this process in place of commands: what is run, what is kept, what is refused."""

import json
from pathlib import Path

import pytest
from tests.support import runs
from tests.support.command import call, refused
from tests.support.tiny_config import ONE_EPOCH, config_file

from pipeline.config import Config
from pipeline.errors import NonFiniteError
from pipeline.records.result_file import if_completed
from workers.run import train
from workers.sweep import cell_run, command
from workers.sweep.axes import Grid


@pytest.fixture
def config(tmp_path):
    return config_file(tmp_path)


@pytest.fixture
def started(monkeypatch):
    """What was started: cells and seeds."""
    log = []

    class Here:
        def __init__(self, cell, seed, out, data_root):
            log.append((cell.name, seed))
            self.given = cell, seed, out, data_root

        def poll(self):
            cell, seed, out, data_root = self.given
            table = {**cell.config.to_dict(), "seed": seed}
            try:
                return {"result": train(Config.from_dict(table), out=out, data_root=data_root)}
            except NonFiniteError as error:
                return {"error": str(error)}

        def tell(self):
            log.append("told")

        def stop(self):
            log.append("stopped")

    monkeypatch.setattr(command.CellRun, "start", Here)
    monkeypatch.setattr("workers.sweep.pool._PAUSE_S", 0.0)
    return log


def test_each_run_is_what_it_would_be_alone_and_none_is_run_twice(config, tmp_path, started):
    out = tmp_path / "out"
    words = ["--config", config, "--sweep", "optimizer.lr=1e-2,3e-2", "--repeat", 2, "--out", out, "seed=3"]
    code, said, err = call(*words)
    assert (code, err) == (0, "")
    assert started == [(f"optimizer.lr={lr}", seed) for seed in (3, 4) for lr in ("0.01", "0.03")]
    lines = said.splitlines()
    assert lines[0] == "2 cells x 2 seeds: 4 runs" and lines[4].startswith("[4/4] optimizer.lr=0.03, seed 4: test acc")
    assert "WARNING: THE BEST CELL WAS CHOSEN BY THE TEST SET" in said and lines[-1] == f"written: {out}/sweep.json"
    table = json.loads((out / "sweep.json").read_text())
    assert table["keys"] == {"optimizer.lr": [0.01, 0.03]} and table["seeds"] == [3, 4] and table["is_complete"]
    alone = runs.run(tmp_path / "alone", {"seed": 4, "optimizer": {"lr": 3e-2}}, base=ONE_EPOCH)
    inside = json.loads((out / "optimizer.lr=0.03" / "seed-4" / "result.json").read_text())
    assert inside["weights_sha256"] == alone["weights_sha256"]
    assert table["cells"][1]["tests"][1] == alone["test"]["accuracy"]

    code, said, _ = call(*words[:3], "optimizer.lr=1e-2,0.03,0.1", *words[4:])  # another value, and what is there
    assert code == 0 and started[4:] == [("optimizer.lr=0.1", 3), ("optimizer.lr=0.1", 4)]
    assert said.splitlines()[0] == "3 cells x 2 seeds: 6 runs, of which 4 have completed"
    assert json.loads((out / "sweep.json").read_text())["keys"] == {"optimizer.lr": [0.01, 0.03, 0.1]}


def test_a_cell_that_fails_is_noted_and_the_others_go_on(config, tmp_path, started):
    out = tmp_path / "out"
    code, said, err = call("--config", config, "--out", out, "--sweep", "optimizer.lr=1e30,0.01")
    assert code == 1
    assert err.startswith("launch.py: 1 of 2 runs failed; the first: optimizer.lr=1e+30, seed 0: the run has left")
    assert "leaves out single batches. The others are in" in err
    assert said.startswith("2 cells x 1 seed: 2 runs\n")
    assert "[1/2] optimizer.lr=1e+30, seed 0: failed: the run has left the finite numbers" in said
    table = json.loads((out / "sweep.json").read_text())
    assert table["best"] == "optimizer.lr=0.01" and [row["failed"] for row in table["cells"]] == [1, 0]
    assert table["failures"][0]["cell"] == "optimizer.lr=1e+30"


def test_a_sweep_has_a_folder_of_its_own_and_quiet_is_quiet(config, tmp_path, monkeypatch, started):
    monkeypatch.setattr("launch.runs_folder", lambda: tmp_path / "runs")
    assert call("--config", config, "--sweep", "optimizer.lr=0.1", "--quiet") == (0, "", "")
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name.startswith("tiny-sweep-") and (folder / "sweep.json").exists()


def test_runs_share_the_cores(config, tmp_path, started, monkeypatch):
    monkeypatch.setattr(command, "this_host", lambda: command.Host(8, 0))
    cells = Grid(Config.from_dict(runs.merged(ONE_EPOCH, {"run": {"threads": 0}})), ["optimizer.lr=0.1"]).cells()
    placed = [command._placed(cells[0], tmp_path, jobs).config.run for jobs in (1, 2, 8)]
    assert [(run.stages, run.threads) for run in placed] == [(1, 8), (1, 4), (1, 1)]


def test_an_interrupt_ends_what_goes_on_and_says_how_to_go_on(config, tmp_path, started, monkeypatch):
    def interrupted(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(command.CellRun.start, "poll", interrupted)
    out = tmp_path / "out"
    code, _, err = call("--config", config, "--out", out, "--sweep", "optimizer.lr=0.1,0.2")
    assert code == 130 and started[-2:] == ["told", "stopped"]
    assert f"Go on with the same command and --out {out}." in err and (out / "sweep.json").exists()


WRONG = {
    "no values": (["--sweep", "optimizer.lr="], "cannot read what is swept (given: --sweep 'optimizer.lr='"),
    "an unknown key": (["--sweep", "train.epoch=1,2"], "unknown key (given: train.epoch"),
    "an unknown option": (["--sweep", "rule.gamma=1,2"], "the cell rule.gamma=1 cannot run: unknown key"),
    "a value out of range": (["--sweep", "rule.beta=0.5,2"], "the cell rule.beta=2 cannot run: "),
    "a key that is set": (["--sweep", "train.epochs=1,2", "--repeat", "1", "train.epochs=3"], "a key is given twice"),
    "a mode that is set": (["--sweep", "schedule.mode=gpipe", "--mode", "backprop"], "a key is given twice"),
    "no jobs": (["--sweep", "seed.x=1", "--jobs", "0"], "wrong value for --jobs (given: '0', expected: 1 to "),
    "many jobs": (["--sweep", "seed.x=1", "--jobs", "9999"], "wrong value for --jobs (given: '9999', expected: 1 to "),
    "endless jobs": (["--sweep", "seed.x=1", "--jobs", "9" * 5000], "wrong value for --jobs (given: '99999"),
    "jobs of nothing": (["--jobs", "2"], "a run is one job (given: --jobs without --sweep)"),
    "no rounds": (["--sweep", "seed.x=1", "--repeat", "0"], "wrong value for --repeat (given: '0'"),
    "a plan": (["--sweep", "seed.x=1", "--plan"], "a sweep starts several runs (given: --sweep with --plan)"),
    "a comparison": (["--sweep", "seed.x=1", "--against", "gpipe"], "(given: --sweep with --against)"),
    "a resume": (["--sweep", "seed.x=1", "--resume", "."], "(given: --sweep with --resume)"),
    "a look": (["--sweep", "seed.x=1", "--evaluate", "."], "(given: --sweep with --evaluate)"),
    "a report": (["--sweep", "seed.x=1", "--report", "."], "a report changes no run (given: --report with --sweep)"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_one_message_and_exit_status_2(config, tmp_path, name, started):
    arguments, text = WRONG[name]
    extra = [] if "--report" in arguments else ["--config", config]
    assert text in refused(*arguments, *extra, "--out", tmp_path / "out")
    assert started == [] and not (tmp_path / "out").exists()


def test_under_torchrun_it_is_refused(config, tmp_path):
    code, _, err = call("--config", config, "--sweep", "train.epochs=1,2", env={"RANK": "0"})
    assert code == 2 and "a sweep starts its own processes" in err


def test_folders_that_are_no_place_for_it(config, tmp_path, started):
    out = tmp_path / "out"
    words = ["--config", config, "--out", out, "--sweep", "optimizer.lr=0.1"]
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").touch()
    for folder, text in ((tmp_path / "taken", "the output folder is taken"), (config, "cannot go on with a sweep")):
        code, said, err = call(*words[:3], folder, *words[4:])
        assert (code, said) == (2, "") and text in err
    assert call(*words)[0] == 0
    code, _, err = call(*words[:-1], "optimizer.lr=0.1", "train.epochs=1")
    assert code == 2 and "the folder has a sweep of other keys (given: optimizer.lr, train.epochs; there: optimi" in err
    code, _, err = call(*words, "--repeat", 1, "train.batch_size=13", "run.threads=2")
    assert code == 2 and "the folder has runs of another config" in err
    assert "train.batch_size: 12 there, now 13; run.threads: 1 there, now 2" in err
    (out / "optimizer.lr=0.1" / "seed-0" / "config.toml").write_text("[")
    code, _, err = call(*words)
    assert code == 2 and "a run of the sweep cannot be read" in err
    for text, said in (("{", "cannot go on with a sweep"), ('{"keys": 3}', "the folder has a sweep of other keys")):
        (out / "sweep.json").write_text(text)
        code, _, err = call(*words)
        assert code == 2 and said in err


def test_a_disk_that_refuses_the_table_ends_it_in_one_line(config, tmp_path, started, monkeypatch):
    def full(path, table):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("workers.sweep.results.write_json", full)
    code, _, err = call("--config", config, "--out", tmp_path / "out", "--sweep", "optimizer.lr=0.1")
    assert (code, err.count("\n")) == (2, 1) and "No space left" in err and started == []


class Ended:
    """A child that has ended."""

    def __init__(self, status, words=""):
        self.status, self.words = status, words

    def poll(self):
        return self.status

    def end(self):
        pass

    def said(self):
        return self.words


@pytest.mark.parametrize(("status", "words", "text"), [(1, "no luck", "no luck"), (137, "", "exit status 137")])
def test_a_child_that_left_no_result_has_failed(tmp_path, status, words, text):
    run = cell_run.CellRun(Ended(status, words), tmp_path, Path("none"))
    assert run.poll() == {"error": text}
    (tmp_path / "result.json").write_text('{"status": "interrupted"}')
    assert if_completed(tmp_path) is None and cell_run.CellRun(Ended(None), tmp_path, Path("none")).poll() is None
