import json

import pytest
from tests.support import runs
from tests.support.command import call, refused
from tests.support.tiny_config import ONE_EPOCH, config_file

from pipeline.errors import WorkerFailed
from workers.comparison import command, results


@pytest.fixture
def config(tmp_path):
    return config_file(tmp_path)


def test_arms_run_in_turns_on_the_same_seeds_and_each_is_the_run_that_it_would_be_alone(config, tmp_path):
    out = tmp_path / "out"
    code, said, err = call("--config", config, "--against", "backprop,gpipe", "--repeat", 2, "--out", out, "seed=3")
    assert (code, err) == (0, "")
    table = json.loads((out / "compare.json").read_text())
    assert list(table["arms"]) == ["parallel", "backprop", "gpipe"] and list(table["ratios"]) == ["backprop", "gpipe"]
    assert table["seeds"] == [3, 4] and {"test", "samples_per_s", "peak_bytes"} <= set(table["arms"]["gpipe"])
    lines = said.splitlines()
    turns = [line.split(":")[0].split("  ") for line in lines[:6]]
    order = [["parallel", "backprop", "gpipe"], ["gpipe", "backprop", "parallel"]]
    assert turns == [[f"round {n}/2", mode] for n in (1, 2) for mode in order[n - 1]]
    assert table["order"] == order and table["failures"] == []
    assert table["arms"]["gpipe"]["peak_bytes"] is None  # all in the process of this test, whose peak never falls
    assert lines[-1] == f"written: {out}/compare.json" and lines[-2].startswith("parallel against gpipe: ")
    for mode in ("parallel", "backprop"):
        alone = runs.run(tmp_path / mode, {"seed": 4, "schedule": {"mode": mode}}, base=ONE_EPOCH)
        found = json.loads((out / mode / "seed-4" / "result.json").read_text())
        assert found["weights_sha256"] == alone["weights_sha256"]
        assert table["arms"][mode]["tests"][1] == alone["test"]["accuracy"]


def test_quiet_is_quiet_and_a_comparison_has_a_folder_of_its_own(config, tmp_path, monkeypatch):
    monkeypatch.setattr("launch.runs_folder", lambda: tmp_path / "runs")
    assert call("--config", config, "--against", "backprop", "--quiet") == (0, "", "")
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name.startswith("tiny-against-") and (folder / "compare.json").exists()


WRONG = {
    "nothing": (["--against", ""], "there is nothing to compare with"),
    "a misspelt mode": (["--against", "backprob"], "unknown mode (given: schedule.mode 'backprob'"),
    "a repetition of nothing": (["--repeat", "3"], "nothing is repeated (given: --repeat without --against)"),
    "no number": (["--against", "backprop", "--repeat", "many"], "wrong value for --repeat (given: 'many'"),
    "endless rounds": (["--against", "backprop", "--repeat", "9" * 5000], "wrong value for --repeat (given: '99999"),
    "no rounds": (["--against", "backprop", "--repeat", "0"], "wrong value for --repeat (given: '0'"),
    "a plan": (["--against", "backprop", "--plan"], "a comparison starts several runs (given: --against with --plan)"),
    "changes": (["--against", "backprop", "--allow-changes"], "(given: --against with --allow-changes)"),
    "a resume": (["--against", "backprop", "--resume", "RUN"], "(given: --against with --resume)"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_one_message_and_exit_status_2(tmp_path, name):
    arguments, text = WRONG[name]
    (tmp_path / "config.toml").write_text("")
    words = [tmp_path if word == "RUN" else word for word in arguments]
    assert text in refused("--out", tmp_path / "out", *words)
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_taken_and_one_that_fails_at_the_end(config, tmp_path, monkeypatch):
    code, out, err = call("--config", config, "--out", tmp_path, "--against", "backprop")
    assert (code, out) == (2, "") and "the output folder is taken" in err

    def full(path, table):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(results, "write_json", full)
    code, _, err = call("--config", config, "--out", tmp_path / "out", "--against", "backprop", "--quiet")
    assert code == 2 and "cannot write to the output folder" in err and "No space left" in err


def test_a_run_that_fails_is_noted_and_the_others_are_compared(config, tmp_path, monkeypatch):
    train, written = command.train, []

    def failing(config, **kwargs):
        if config.schedule.mode == "backprop" and (config.seed == 1 or kwargs["out"].parent.parent.name == "all"):
            raise WorkerFailed(0, 1, "no\nluck")
        return train(config, **kwargs)

    def write(path, table):
        written.append(table["seeds"])
        write_json(path, table)

    write_json = results.write_json
    monkeypatch.setattr(command, "train", failing)
    monkeypatch.setattr(results, "write_json", write)
    arguments = ["--config", config, "--against", " backprop, gpipe ", "--repeat", 2, "seed=0", "--out"]
    code, said, err = call(*arguments, tmp_path / "out")
    assert code == 1 and err == (
        f"launch.py: [stage 0/1] no\nluck\nThe other runs are compared in {tmp_path}/out/compare.json.\n"
    )
    assert "round 2/2  backprop: failed: [stage 0/1] no luck" in said.splitlines()
    table = json.loads((tmp_path / "out" / "compare.json").read_text())
    assert table["failures"] == [{"arm": "backprop", "seed": 1, "error": "[stage 0/1] no luck"}]
    assert [arm["failed"] for arm in table["arms"].values()] == [0, 1, 0]
    assert table["arms"]["backprop"]["tests"][1] is None and table["ratios"]["backprop"]["test"] is not None
    assert written == [[0], [0, 1]]
    code, said, _ = call(*arguments, tmp_path / "all")
    assert code == 1 and "parallel against backprop: no round of both" in said.splitlines()


def test_under_torchrun_it_is_refused(config, tmp_path):
    arguments = ["--config", config, "--out", tmp_path / "out", "--against", "backprop"]
    code, _, err = call(*arguments, env={"RANK": "0"})
    assert code == 2 and "a comparison starts its own processes" in err
