"""Runs that start from the trained blocks of another one."""

import json
import shutil
import tomllib

import pytest
import torch
from tests.support import resumes, runs
from tests.support.command import call

from pipeline.config import Config
from pipeline.errors import ConfigError
from pipeline.records.run_record import read_record
from pipeline.records.weights import latest_weights, load_blocks
from workers.resume import open_origin
from workers.run import train

pytestmark = pytest.mark.distributed
TINY = runs.merged(resumes.TINY, {"train": {"epochs": 2}})


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run that has ended."""
    out = tmp_path_factory.mktemp("trained") / "run"
    runs.run(out, {"rule": {"name": "pred"}}, base=TINY)
    return out


def started(out, trained, base=TINY, **changes):
    """A run from ``trained``."""
    changes["train"] = {"epochs": 1, **changes.get("train", {}), "init_from": str(trained)}
    return runs.run(out, {"rule": {"name": "pred"}, **changes}, base=base)


def test_frozen_ones_end_as_they_began_and_the_record_says_from_where(tmp_path, trained):
    result = started(tmp_path / "run", trained, train={"freeze": "0-2"}, run={"stages": 2})
    theirs, mine = load_blocks(latest_weights(trained)), load_blocks(latest_weights(tmp_path / "run"))
    for k in range(3):
        assert all(torch.equal(theirs[k][key], mine[k][key]) for key in theirs[k])
    sha = json.loads((trained / "result.json").read_text())["weights_sha256"]
    assert result["init_from"] == {"run": str(trained), "weights_sha256": sha, "blocks": [0, 1, 2, 3]}
    header = json.loads((tmp_path / "run" / "record.jsonl").read_text().splitlines()[0])
    assert header["fixed"]["train.init_from.weights_sha256"] == sha
    table = tomllib.loads((tmp_path / "run" / "config.toml").read_text())
    assert table["train"]["init_from"] == str(trained)


def test_any_number_of_stages_starts_from_the_same(tmp_path, trained):
    found = {
        started(tmp_path / str(n), trained, run={"stages": n}, transport={"name": transport})["weights_sha256"]
        for n, transport in [(1, "inline"), (3, "inline"), (2, "shared_memory")]
    }
    assert len(found) == 1 and runs.sha(tmp_path / "drawn", {"rule": {"name": "pred"}}, base=TINY) not in found


def test_some_blocks_and_their_decoders_where_the_rule_is_the_same(tmp_path, trained):
    """Nothing is learned at a rate of 0: what the blocks began with is what they end with."""
    still = {"optimizer": {"name": "sgd", "lr": 0.0}, "model": {"norm": "none"}}
    runs.run(tmp_path / "plain", {"rule": {"name": "pred"}, "model": {"norm": "none"}}, base=TINY)
    started(tmp_path / "run", tmp_path / "plain", train={"init_blocks": "1-2"}, **still,
            rule={"name": "pred", "blocks": {"2": {"name": "linear_decoder"}}})  # fmt: skip
    runs.run(tmp_path / "drawn", {**still, "rule": {"name": "pred"}}, base=TINY)
    theirs, drawn, mine = (load_blocks(latest_weights(tmp_path / name)) for name in ("plain", "drawn", "run"))
    assert all(torch.equal(mine[1][key], theirs[1][key]) for key in mine[1])
    assert all(torch.equal(mine[2][key], theirs[2][key]) for key in mine[2] if key.startswith("block."))
    assert all(torch.equal(mine[k][key], drawn[k][key]) for k in (0, 3) for key in mine[k])
    assert mine[2].keys() != theirs[2].keys()


def test_measurements_begin_with_the_blocks_that_it_starts_from(tmp_path, trained):
    started(tmp_path / "run", trained, measure={"every": 1, "angles": False, "updates": False})
    runs.run(tmp_path / "first", {"rule": {"name": "pred"}, "measure": {"every": 1, "angles": False, "updates": False}},
             base=TINY)  # fmt: skip
    last = json.loads((tmp_path / "first" / "measurements.json").read_text())["epochs"][-1]["blocks"]
    begun = json.loads((tmp_path / "run" / "measurements.json").read_text())["epochs"][0]["blocks"]
    assert [block["test_accuracy"] for block in begun] == [block["test_accuracy"] for block in last]


def test_it_goes_on_without_the_run_that_it_started_from(tmp_path, trained):
    shutil.copytree(trained, tmp_path / "trained")
    changes = {"rule": {"name": "pred"}, "snapshot": {"every_epochs": 1},
               "train": {"epochs": 3, "init_from": str(tmp_path / "trained")}}  # fmt: skip
    expected = resumes.written(tmp_path / "run", changes)[:4]
    shutil.rmtree(tmp_path / "trained")
    (cut,) = resumes.cuts_of(tmp_path / "run")[1:2]
    assert resumes.resumed(tmp_path / "run", cut, tmp_path / "on", changes)[:4] == expected
    sha = json.loads((trained / "result.json").read_text())["weights_sha256"]
    about = {"run": str(tmp_path / "trained"), "weights_sha256": sha, "blocks": [0, 1, 2, 3]}
    last = Config.from_dict(runs.merged(resumes.TINY, {**changes, "train": {**changes["train"], "epochs": 4}}))
    train(last, out=tmp_path / "on", data_root=tmp_path, origin=open_origin(tmp_path / "on", allow_changes=True))
    for name in ("run", "on"):  # after one resume, and another one
        assert json.loads((tmp_path / name / "result.json").read_text())["init_from"] == about
        headers = [row["fixed"] for row in read_record(tmp_path / name / "record.jsonl") if "fixed" in row]
        assert [row["init_from"] for row in headers] == [about] * (1 if name == "run" else 2)
        assert {row["train.init_from.weights_sha256"] for row in headers} == {sha}


def test_what_goes_on_from_a_snapshot_has_not_begun_with_the_run_that_it_names_now(tmp_path, trained):
    """Measurements look for the blocks of a run that is named, also where it is named only now."""
    every = {"rule": {"name": "pred"}, "measure": {"every": 1, "angles": False, "updates": False},
             "snapshot": {"every_epochs": 1}}  # fmt: skip
    resumes.written(tmp_path / "run", every)
    late = {**every, "train": {"epochs": 4, "init_from": str(trained)}}
    config = Config.from_dict(runs.merged(resumes.TINY, late))
    result = train(config, out=tmp_path / "run", data_root=tmp_path,
                   origin=open_origin(tmp_path / "run", allow_changes=True))  # fmt: skip
    assert "init_from" not in result


def test_a_run_that_begins_anew_wants_the_same_blocks(tmp_path, trained, monkeypatch):
    shutil.copytree(trained, tmp_path / "trained")
    changes = {"rule": {"name": "pred"}, "train": {"epochs": 1, "init_from": str(tmp_path / "trained")}}
    with monkeypatch.context() as patch:
        patch.setattr("workers.run.run_inline", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            resumes.written(tmp_path / "run", changes)
    shutil.rmtree(tmp_path / "trained")
    runs.run(tmp_path / "trained", {"rule": {"name": "pred"}, "seed": 1}, base=TINY)
    config = Config.from_dict(runs.merged(resumes.TINY, changes))
    with pytest.raises(ConfigError, match=r"would not be the same \(train.init_from.weights_sha256: "):
        train(config, out=tmp_path / "run", data_root=tmp_path, origin=open_origin(tmp_path / "run"))


def test_a_damaged_block_is_named(tmp_path, trained):
    shutil.copytree(trained, tmp_path / "trained")
    path = latest_weights(tmp_path / "trained") / "block-001.safetensors"
    content = bytearray(path.read_bytes())
    content[-3] ^= 8
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="block-001.safetensors.* Start from another run"):
        started(tmp_path / "run", tmp_path / "trained")
    (path.parent / "manifest.json").write_text("{}")
    with pytest.raises(ConfigError, match="manifest.json.* Start from another run, or repeat that one"):
        started(tmp_path / "run", tmp_path / "trained")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"seed": 7, "dataset": {"validation": 0.2}}, "(there seed = 0 and dataset.validation = 0.0, here 7 and 0.2)"),
        ({"dataset": {"validation": 0.2}}, "(there seed = 0 and dataset.validation = 0.0, here 0 and 0.2)"),
        ({"seed": 7}, None), ({"seed": 7, "dataset": {"validation": 0.2, "sample_seed": 9}}, None),
    ],
)
def test_samples_for_validation_that_the_blocks_have_seen_are_said(tmp_path, trained, caplog, changes, told):
    started(tmp_path / "run", trained, **changes)
    found = [record.getMessage() for record in caplog.records if "validation" in record.getMessage()]
    assert len(found) == (told is not None)
    assert all(told in text and text.endswith("or leave dataset.validation out.") for text in found)


def test_the_same_samples_held_out_in_both_runs_are_no_matter(tmp_path, caplog):
    data = {"dataset": {"name": "digits", "validation": 0.2}}
    runs.run(tmp_path / "first", {"rule": {"name": "pred"}, **data}, base=TINY)
    started(tmp_path / "second", tmp_path / "first", **data)
    assert not caplog.records
    augmented = {"name": "digits", "validation": 0.1, "crop_padding": 1}
    started(tmp_path / "third", tmp_path / "first", dataset=augmented)
    assert "(there seed = 0 and dataset.validation = 0.2, here 0 and 0.1)" in caplog.text
    caplog.clear()
    (tmp_path / "first" / "config.toml").unlink()  # nobody knows: its weights are all that is needed
    started(tmp_path / "fourth", tmp_path / "first", dataset=augmented)
    assert not caplog.records


WRONG = {
    "no run": ([], "no-such", "--init-from: there is no run (given: "),
    "another width": (["model.width=9"], None, "block 0 cannot start from that of the run (given: "),
    "another kind": (["model.norm=none"], None, "is there alone). Name the blocks"),
    "another depth": (["model.depth=6"], None, "the run has other blocks (given: "),
    "a block too many": (["train.init_blocks=4", "model.depth=6"], None, "expected: as many, or some of 0 to 3"),
    "no such block": (["train.init_blocks=9"], None, "there are no such blocks (given: train.init_blocks has '9'"),
    "with --resume": (["--resume", "no-such"], None, "only a new run starts from another one (given: --init-from wi"),
    "with --plan": (["--plan"], None, "only a new run starts from another one (given: --init-from with --plan)"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_one_message_and_exit_code_2(name, tmp_path, trained):
    arguments, run, text = WRONG[name]
    code, out, err = call("--config", trained / "config.toml", "--out", tmp_path / "run", "--data-root", tmp_path,
                          "--init-from", run or trained, *arguments)  # fmt: skip
    assert (code, out) == (2, "") and text in err and err.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["it's mine", "7", "true"])
def test_a_run_in_a_folder_of_any_name(name, tmp_path, trained, monkeypatch):
    shutil.copytree(trained, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    code, _, err = call("--config", trained / "config.toml", "--out", "on", "--data-root", tmp_path, "--quiet",
                        "--init-from", name, "train.epochs=1")  # fmt: skip
    assert code == 0, err
    assert json.loads((tmp_path / "on" / "result.json").read_text())["init_from"]["run"] == str(tmp_path / name)


@pytest.mark.parametrize("status", ["failed", None, "torn", "emulated"])
def test_a_run_that_has_not_ended_well(status, tmp_path, trained):
    shutil.copytree(trained, tmp_path / "trained")
    result = tmp_path / "trained" / "result.json"
    table = json.loads(result.read_text())
    result.write_text(json.dumps({**table, "status": status, "emulated": False}))
    if status == "emulated":
        result.write_text(json.dumps({**table, "emulated": True}))
    elif status == "torn":
        result.write_text("[1]")
    elif status is None:
        result.unlink()
    said = {"failed": "not complete .*status: failed", None: "not complete .*status: not ended",
            "torn": "not the result of a run .*expected: its status", "emulated": "no weights .*emulated"}  # fmt: skip
    with pytest.raises(ConfigError, match=f"--init-from: .*{said[status]}"):
        started(tmp_path / "run", tmp_path / "trained")


def test_blocks_without_a_run(tmp_path):
    with pytest.raises(ConfigError, match=r"no run to start from \(given: train.init_blocks = '1' without"):
        runs.run(tmp_path / "run", {"train": {"init_blocks": "1"}}, base=TINY)


def test_the_weights_that_a_validation_set_has_chosen(tmp_path):
    """An early epoch is the best one: a rate that spoils what it has learned."""
    spoiled = {"dataset": {"name": "digits", "validation": 0.2}, "rule": {"name": "pred"}, "train": {"epochs": 4},
               "optimizer": {"name": "sgd", "lr": 3.0, "milestones": []}}  # fmt: skip
    result = runs.run(tmp_path / "first", spoiled, base=TINY)
    assert result["selection"]["epoch"] < 3
    still = {**spoiled, "optimizer": {"name": "sgd", "lr": 0.0}, "train": {"epochs": 1, "freeze": "0-2"}}
    again = runs.run(tmp_path / "on", runs.merged(still, {"train": {"init_from": str(tmp_path / "first")}}), base=TINY)
    assert again["test"] == result["test"]
