"""A run that is taken up at any of its cuts learns what it would have learned, on any number of stages."""

import dataclasses
import json
import shutil

import pytest
import torch
from tests.support.products import rare
from tests.support.resumes import TINY, cuts_of, learned, resumed, written
from tests.support.runs import merged

from pipeline import registry
from pipeline.config import Config
from pipeline.engine import block_state, start
from pipeline.errors import ConfigError
from pipeline.records.run_record import read_record
from pipeline.records.snapshots import Manifest, complete_snapshots
from workers.resume import open_origin
from workers.run import train

EVERY_STEP = {"snapshot": {"every_steps": 1}}
EVERY_EPOCH = {"snapshot": {"every_epochs": 1}}
EPOCH = slice(4, 9)
"""The cuts of the second of three epochs, its start included."""
SEQUENTIAL = {"schedule": {"mode": "sequential", "patience": 2, "tolerance": 0.2}}
PLAIN = {"norm": "none", "activation": "tanh", "dropout": 0.0}
SAMPLED = {"norm": "none", "activation": "bernoulli", "dropout": 0.0}
MODELS = {
    "ifa": PLAIN, "lra_diff": {**PLAIN, "boundary": "half"}, "reinforce": SAMPLED, "slope_annealing": SAMPLED,
    "straight_through": SAMPLED, "sigmoid_adjusted": SAMPLED,
    "am_mem": {**PLAIN, "boundary": "half"}, "pc": PLAIN, "eqprop": PLAIN, "tp": PLAIN, "dtp": PLAIN, "lra_fdbk": PLAIN,
    "lra_rnn": PLAIN,
}  # fmt: skip
RULES = {name: {"rule": {"name": name}, "model": MODELS.get(name, {})} for name in registry.known("pipeline.rules")}


def resumed_everywhere(folder, changes, stages=(1, 2, 3), cuts=slice(None)):
    """From how many cuts a run was resumed, and those from which it has learned something else on other stages."""
    reference = written(folder / "run", changes)[:4]
    cuts = cuts_of(folder / "run")[cuts]
    differing, without = [], {"every_steps": 0, "every_epochs": 0}
    for index, cut in enumerate(cuts):
        placed = merged(changes, {"run": {"stages": stages[index % len(stages)]}, "snapshot": without})
        if resumed(folder / "run", cut, folder / cut.name, placed)[:4] != reference:
            differing.append(cut.name)
    return len(cuts), differing


@pytest.mark.parametrize("rule", sorted(RULES))
@pytest.mark.parametrize("cuts", [EPOCH, pytest.param(slice(None), marks=pytest.mark.full)], ids=["epoch", "all"])
def test_every_rule_from_every_step(rule, cuts, tmp_path):
    found, differing = resumed_everywhere(tmp_path, {**RULES[rule], **EVERY_STEP}, cuts=cuts)
    assert found == (14 if cuts == slice(None) else 5) and differing == []


OPTIMIZERS = [
    {"name": "adagrad"}, {"name": "adam"}, {"name": "adam", "amsgrad": True}, {"name": "adamw"}, {"name": "rmsprop"},
    {"name": "rprop"}, {"name": "sgd"}, {"name": "sgd", "momentum": 0.9}, {"name": "sign_sgd"},
    {"name": "sgd", "momentum": 0.9, "dampening": 0.1},
]  # fmt: skip


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda o: "-".join(map(str, o.values())))
def test_every_optimizer_from_every_step(optimizer, tmp_path):
    changes = {"optimizer": {**optimizer, "lr": 0.01, "milestones": [1]}, **EVERY_STEP}
    assert resumed_everywhere(tmp_path, changes, cuts=slice(4, 9, 2)) == (3, [])


@pytest.mark.parametrize(
    ("mode", "stages"), [("gpipe", (1, 2, 3)), ("1f1b", (1, 2, 3)), ("backprop", (1,))], ids=lambda v: str(v)
)
def test_every_mode_from_every_step(mode, stages, tmp_path):
    train_in_parts = {"microbatches": 1 if mode == "backprop" else 2}
    changes = {"schedule": {"mode": mode}, "train": train_in_parts, **EVERY_STEP}
    assert resumed_everywhere(tmp_path, changes, stages, EPOCH) == (5, [])


@pytest.mark.parametrize("rule", ["dfa", "fa", "backprop"])
def test_late_feedback_from_every_epoch(rule, tmp_path):
    changes = {"rule": {"name": rule}, "train": {"in_flight": 3}, **EVERY_EPOCH}
    assert resumed_everywhere(tmp_path, changes) == (2, [])


def test_pipedream_from_every_epoch_on_its_own_stages(tmp_path):
    changes = {"schedule": {"mode": "pipedream"}, "run": {"stages": 2}, **EVERY_EPOCH}
    assert resumed_everywhere(tmp_path, changes, stages=(2,)) == (2, [])


@pytest.mark.parametrize("cache", rare(["auto", "off", "file"], but=["auto"]))
def test_sequential_from_every_step_filling_epochs_too(cache, tmp_path):
    changes = {"schedule": {**SEQUENTIAL["schedule"], "cache": cache}, "rule": {"name": "pred"}, **EVERY_STEP}
    number, differing = resumed_everywhere(tmp_path, changes, cuts=slice(0, None, 2 if cache == "auto" else 1))
    assert number > 20 and differing == []


@pytest.mark.parametrize("setting", [{"autocast": "bfloat16"}, {"learn_after": "stage"}])
def test_settings_of_a_stage(setting, tmp_path):
    assert resumed_everywhere(tmp_path, merged(EVERY_STEP, {"run": setting}), cuts=EPOCH) == (5, [])


def _without(part):
    """:func:`capture` that leaves out what its name begins with."""
    real = block_state.capture

    def capture(stage, block, *, inside_epoch):
        state = real(stage, block, inside_epoch=inside_epoch)
        return dataclasses.replace(state, tensors={k: v for k, v in state.tensors.items() if not part(k)})

    return capture


@pytest.mark.parametrize(
    ("left_out", "which"),
    [
        pytest.param(lambda name: name.startswith("optimizer/"), 0, id="optimizer"),
        pytest.param(lambda name: name.startswith("scores/"), 1, id="losses"),
    ],
)
def test_nothing_in_a_snapshot_is_idle(left_out, which, tmp_path, monkeypatch):
    """What is left out changes the weights, or the scores."""
    monkeypatch.setattr("workers.snapshot_writer.capture", _without(left_out))
    reference = written(tmp_path / "run", EVERY_STEP)
    found = resumed(tmp_path / "run", cuts_of(tmp_path / "run")[7], tmp_path / "on", EVERY_STEP)
    assert found[which] != reference[which]


def test_buffers_are_part_of_a_snapshot(tmp_path, monkeypatch):
    real = start.restore

    def restore(stage, block, state):
        real(stage, block, state)
        for name, buffer in stage.rules[block].named_buffers():
            if "running_var" in name:
                buffer.fill_(1.0)

    reference = written(tmp_path / "run", EVERY_STEP)
    monkeypatch.setattr(start, "restore", restore)
    assert resumed(tmp_path / "run", cuts_of(tmp_path / "run")[7], tmp_path / "on", EVERY_STEP)[0] != reference[0]


def test_a_complete_run_can_be_trained_longer(tmp_path):
    longer = {"train": {"epochs": 5}}
    reference = written(tmp_path / "long", longer)
    written(tmp_path / "run", {})
    config = Config.from_dict(merged(TINY, longer))
    origin = open_origin(tmp_path / "run", allow_changes=True)
    train(config, out=tmp_path / "run", data_root=tmp_path, origin=origin)
    assert learned(tmp_path / "run") == reference
    assert json.loads((tmp_path / "run" / "result-step-15.json").read_text())["epochs"] == 3


def test_a_run_goes_on_in_its_own_folder(tmp_path):
    """With what it measures, the samples of its stage, and a record that tells what is void."""
    changes = merged(EVERY_STEP, {"measure": {"every": 1, "accuracies": False}, "rule": {"name": "fa"}})
    reference = written(tmp_path / "whole", changes)
    measured = json.loads((tmp_path / "whole" / "measurements.json").read_text())

    def stop(*_):
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("workers.run.measure_run", stop)
        patch.setattr("workers.run.Session.finish", stop)
        with pytest.raises(KeyboardInterrupt):
            written(tmp_path / "run", changes)
    assert json.loads((tmp_path / "run" / "result.json").read_text())["status"] == "interrupted"
    train(
        Config.from_dict(merged(TINY, changes)), out=tmp_path / "run", data_root=tmp_path,
        origin=open_origin(tmp_path / "run"),
    )  # fmt: skip
    assert learned(tmp_path / "run") == reference
    assert json.loads((tmp_path / "run" / "measurements.json").read_text()) == measured
    epochs = [row["epoch"] for row in read_record(tmp_path / "run" / "record.jsonl") if row["event"] == "epoch"]
    assert epochs == [0, 1, 2]
    events = [row["event"] for row in map(json.loads, (tmp_path / "run" / "record.jsonl").read_text().splitlines())]
    assert events.count("epoch") > 3 and "resume" in events and "failure" in events


def test_a_run_without_a_snapshot_begins_anew(tmp_path, monkeypatch):
    reference = written(tmp_path / "whole", {})
    with monkeypatch.context() as patch:
        patch.setattr("workers.run.run_inline", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            written(tmp_path / "run", {})
    train(
        Config.from_dict(merged(TINY, {"run": {"stages": 3}})), out=tmp_path / "run", data_root=tmp_path,
        origin=open_origin(tmp_path / "run"),
    )  # fmt: skip
    assert learned(tmp_path / "run")[:4] == reference[:4]


def test_a_damaged_snapshot_is_passed_over_and_named(tmp_path, caplog):
    reference = written(tmp_path / "run", EVERY_STEP)
    newest = complete_snapshots(tmp_path / "run")[0]
    path = newest / "block-001.safetensors"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 8
    path.write_bytes(content)
    assert open_origin(tmp_path / "run").found[0].name == "step-14"
    assert str(path) in caplog.text
    train(
        Config.from_dict(merged(TINY, EVERY_STEP)), out=tmp_path / "run", data_root=tmp_path,
        origin=open_origin(tmp_path / "run"),
    )  # fmt: skip
    assert learned(tmp_path / "run") == reference


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"optimizer": {"lr": 0.5}}, r"optimizer.lr: 0.01 in the run, now 0.5"),
        ({"seed": 3}, r"seed: 0 in the run, now 3"),
        ({"run": {"threads": 2}}, r"run.threads: 1 in the run, now 2"),
        ({"train": {"epochs": 2}}, r"train.epochs: 3 in the run, now 2"),
    ],
)
def test_a_changed_config_is_refused_with_the_difference(changes, text, tmp_path):
    written(tmp_path / "run", EVERY_STEP)
    folder = cuts_of(tmp_path / "run")[3]
    with pytest.raises(ConfigError, match=f"would not be the same .*{text}.*--allow-changes"):
        resumed(tmp_path / "run", folder, tmp_path / "on", changes)
    assert not (tmp_path / "on").exists()


def test_what_the_config_leaves_open_stays_as_it_was(tmp_path):
    """One stage of two threads gives other bits than two of one."""
    written(tmp_path / "run", {"run": {"threads": 2}, **EVERY_STEP})
    run = tmp_path / "run"
    written_open = {"run": {"threads": 0}}
    origin = open_origin(run)
    config = origin.fixed_in(Config.from_dict(merged(TINY, written_open)))
    assert config.run.threads == 2 and config.run.device == "cpu"


def test_nothing_left_to_train(tmp_path):
    written(tmp_path / "run", {})
    with pytest.raises(ConfigError, match=r"nothing left to train .*epochs done: 3, asked for: train.epochs=3"):
        train(Config.from_dict(TINY), out=tmp_path / "run", data_root=tmp_path, origin=open_origin(tmp_path / "run"))
    assert json.loads((tmp_path / "run" / "result.json").read_text())["status"] == "completed"


def test_other_data_are_refused(tmp_path):
    written(tmp_path / "run", EVERY_STEP)
    folder = cuts_of(tmp_path / "run")[3]
    manifest = Manifest.read(folder)
    origin = dataclasses.replace(
        open_origin(tmp_path / "run"), found=(folder, dataclasses.replace(manifest, fixed={"data_crc32": 1}))
    )
    with pytest.raises(ConfigError, match=r"not those that the run began with \(given: checksum .*expected: 00000001"):
        train(Config.from_dict(TINY), out=tmp_path / "on", data_root=tmp_path, origin=origin)


def test_another_network_does_not_fit(tmp_path):
    written(tmp_path / "run", EVERY_STEP)
    folder = cuts_of(tmp_path / "run")[3]
    origin = open_origin(tmp_path / "run", allow_changes=True)
    origin = dataclasses.replace(origin, found=(folder, Manifest.read(folder)))
    config = Config.from_dict(merged(TINY, {"model": {"width": 13}}))
    with pytest.raises(ConfigError, match=r"the snapshot does not fit block 0 \(.*\). Resume with the config"):
        train(config, out=tmp_path / "on", data_root=tmp_path, origin=origin)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"optimizer": {"name": "sgd"}}, "optimizer.name: 'adam' in the run, now 'sgd'"),
        ({"optimizer": {"blocks": {"last": {"name": "sgd"}}}}, "optimizer of block 3: 'adam' in the run, now 'sgd'"),
        ({"optimizer": {"amsgrad": True}},
         "optimizer of blocks 0, 1, 2, 3: 'adam' in the run, now 'adam' with amsgrad"),
        ({"optimizer": {"blocks": {"1": {"amsgrad": True}}}},
         "optimizer of block 1: 'adam' in the run, now 'adam' with amsgrad"),
        ({"model": {"depth": 4}}, "blocks: 4 in the run, now 5"),
        ({"train": {"batch_size": 26}}, "steps of an epoch: 5 in the run, now 2"),
    ],
)  # fmt: skip
def test_what_no_snapshot_fits_is_refused_whatever_is_allowed(changes, text, tmp_path):
    written(tmp_path / "run", EVERY_STEP)
    folder = cuts_of(tmp_path / "run")[3]
    origin = open_origin(tmp_path / "run", allow_changes=True)
    origin = dataclasses.replace(origin, found=(folder, Manifest.read(folder)))
    with pytest.raises(ConfigError, match=f"cannot be taken up .*{text}.*start a new run"):
        train(Config.from_dict(merged(TINY, changes)), out=tmp_path / "on", data_root=tmp_path, origin=origin)


def test_phases_that_would_have_ended_elsewhere(tmp_path):
    changes = {"schedule": {**SEQUENTIAL["schedule"], "tolerance": 0.9, "patience": 1}}
    written(tmp_path / "run", changes)
    longer = merged(changes, {"schedule": {"tolerance": 0.0, "patience": 3}})
    origin = open_origin(tmp_path / "run", allow_changes=True)
    with pytest.raises(ConfigError, match=r"would have taken turns otherwise \(in epoch \d+ another block was trained"):
        train(Config.from_dict(merged(TINY, longer)), out=tmp_path / "run", data_root=tmp_path, origin=origin)


def test_a_complete_run_without_snapshots_is_left_alone(tmp_path):
    written(tmp_path / "run", {})
    shutil.rmtree(tmp_path / "run" / "snapshots")
    with pytest.raises(ConfigError, match="the run is complete and its snapshots are not there"):
        train(Config.from_dict(TINY), out=tmp_path / "run", data_root=tmp_path, origin=open_origin(tmp_path / "run"))
    assert json.loads((tmp_path / "run" / "result.json").read_text())["status"] == "completed"


def test_a_run_of_an_earlier_version_is_left_alone(tmp_path):
    written(tmp_path / "run", {})
    (complete_snapshots(tmp_path / "run")[0] / "block-000.pt").touch()
    with pytest.raises(ConfigError, match=r"written by an earlier version, .* Repeat it with"):
        open_origin(tmp_path / "run")


def test_a_file_that_breaks_after_the_start(tmp_path, monkeypatch):
    written(tmp_path / "run", EVERY_STEP)
    folder = cuts_of(tmp_path / "run")[3]
    manifest = Manifest.read(folder)
    manifest = dataclasses.replace(manifest, files={**manifest.files, 1: 7})
    origin = dataclasses.replace(open_origin(tmp_path / "run"), found=(folder, manifest))
    with pytest.raises(ConfigError, match="block-001.safetensors: it is whole, and not the one"):
        train(Config.from_dict(TINY), out=tmp_path / "on", data_root=tmp_path, origin=origin)


@pytest.mark.parametrize("changes", [{"train": {"in_flight": 2}, "rule": {"name": "fa"}},
                                     {"schedule": {"mode": "pipedream"}}])  # fmt: skip
def test_cuts_inside_epochs_are_refused_where_batches_are_in_flight(changes, tmp_path):
    with pytest.raises(ConfigError, match="cut between epochs only .*snapshot.every_epochs"):
        written(tmp_path / "run", {**changes, **EVERY_STEP})


@pytest.mark.parametrize("found", ["nothing", "a folder", "no TOML"])
def test_no_run_to_resume(found, tmp_path):
    if found != "nothing":
        (tmp_path / "run").mkdir()
    if found == "no TOML":
        (tmp_path / "run" / "config.toml").write_text("=")
    with pytest.raises(ConfigError, match=r"no run to resume \(given: .*run, expected: a folder that --out named"):
        open_origin(tmp_path / "run")


def test_a_module_of_the_users_own_is_resumed_with_it(tmp_path):
    def model():
        torch.manual_seed(0)
        return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(36, 8), torch.nn.ReLU(), torch.nn.Linear(8, 4))

    reference = written(tmp_path / "run", EVERY_STEP, model=model())
    cut = cuts_of(tmp_path / "run")[6]
    assert resumed(tmp_path / "run", cut, tmp_path / "on", EVERY_STEP, model=model())[0] == reference[0]
