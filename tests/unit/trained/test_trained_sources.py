"""Runs and files that no network can be loaded from: one message that says what to do."""

import json
import shutil

import pytest
import torch
from tests.support import own_nets, resumes, runs

from pipeline.errors import ConfigError
from pipeline.records.network_facts import read_facts
from pipeline.trained.build import load
from pipeline.trained.sources import Run


def edited(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def flip(path, place=-5):
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def refused(run, *texts, **kwargs):
    with pytest.raises(ConfigError) as caught:
        load(run, **kwargs)
    message = str(caught.value)
    assert [text for text in texts if text not in message] == [] and "\n" not in message, message


def test_a_run_is_its_result_and_knows_its_config(trained_run):
    run = Run(trained_run)
    table = json.loads((trained_run / "result.json").read_text())
    assert dict(run) == table and len(run) == len(table) and "weights_sha256" in run
    assert run.config.rule.name == "pred" and run.weights.name == f"step-{table['steps']}"
    assert repr(run).startswith(f"Run('{trained_run}', test={{'accuracy'")


def test_no_run(tmp_path):
    for name in ("none", "y" * 300, "a\0b"):
        refused(tmp_path / name, "there is no run", "expected: a folder that --out named", "Name another one")
    (tmp_path / "config.toml").write_text("seed = [")
    refused(tmp_path, "there is no run")
    (tmp_path / "config.toml").write_text("seed = 1")
    refused(tmp_path, "the run is not complete", "status: not ended", "--resume")
    (tmp_path / "result.json").write_text("{")
    refused(tmp_path, "the run's result cannot be read", str(tmp_path / "result.json"), "expected: JSON")
    (tmp_path / "result.json").write_text("[]")
    refused(tmp_path, "this is not the result of a run", str(tmp_path / "result.json"), "expected: its status in it")


def test_a_run_that_did_not_end_well(own_copy):
    edited(own_copy / "result.json", status="failed")
    refused(own_copy, "the run is not complete", "status: failed", f"--resume {own_copy}")


def test_a_run_whose_compute_was_emulated(own_copy):
    edited(own_copy / "result.json", emulated=True)
    refused(own_copy, "the run has no weights", "emulated by waiting")


@pytest.mark.parametrize("name", ["block-001.safetensors", "manifest.json"])
def test_weights_that_were_flipped(own_copy, name):
    flip(Run(own_copy).weights / name)
    refused(own_copy, "the file is damaged", name)


def test_weights_that_are_gone(own_copy):
    (Run(own_copy).weights / "block-002.safetensors").unlink()
    refused(own_copy, "the file is damaged", "block-002.safetensors: No such file")


def test_weights_of_another_run(own_copy, tmp_path):
    runs.run(tmp_path / "other", {"train": {"epochs": 1}, "rule": {"name": "pred"}, "seed": 7}, base=resumes.TINY)
    shutil.copytree(Run(tmp_path / "other").weights, Run(own_copy).weights, dirs_exist_ok=True)
    refused(own_copy, "the file is damaged", "its weights are not those of the run's result")


def test_a_file_of_an_earlier_version_switches_no_check_off(own_copy):
    folder, expected = Run(own_copy).weights, load(own_copy).state_dict()
    for k, rule in enumerate(load(own_copy).rules):
        torch.save({name: t + 1 for name, t in rule.state_dict().items()}, folder / f"block-{k:03d}.pt")
    found = load(own_copy).state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    for path in folder.glob("*.safetensors"):
        path.unlink()
    refused(own_copy, "the file is damaged", "its weights are not those of the run's result")


def test_weights_that_are_whole_and_not_the_results(own_copy):
    edited(own_copy / "result.json", weights_sha256="0" * 64)
    refused(own_copy, "the file is damaged", "its weights are not those of the run's result")


@pytest.mark.parametrize("name", ["steps", "threads_per_stage", "epochs"])
def test_a_result_that_says_too_little(own_copy, name):
    table = json.loads((own_copy / "result.json").read_text())
    for given in (None, "many", [], {}):
        edited(own_copy / "result.json", **{name: given})
        refused(own_copy, "the run says too little", str(own_copy / "result.json"))
    del table[name]
    (own_copy / "result.json").write_text(json.dumps(table))
    refused(own_copy, "the run says too little", str(own_copy / "result.json"), name)


def test_facts_that_are_none(own_copy):
    for text in ("{", "{}", '{"input_shape": 3, "task": null, "normalisation": null, "structure": null}'):
        (own_copy / "network.json").write_text(text)
        refused(own_copy, "the file is damaged", "network.json")


def test_a_task_of_ones_own_is_asked_of_the_data_set(own_copy):
    expected = load(own_copy).state_dict()
    edited(own_copy / "network.json", task=None)
    assert read_facts(own_copy).task is None
    found = load(own_copy, data_root=own_copy).state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def test_weights_of_an_earlier_version_and_weights_that_were_rescued(own_copy, tmp_path):
    expected, run = load(own_copy), Run(own_copy)
    rescued = tmp_path / "rescued"
    rescued.mkdir()
    for k, rule in enumerate(expected.rules):
        torch.save(rule.state_dict(), rescued / f"block-{k:03d}.pt")
    (rescued / "manifest.json").write_text(json.dumps({"num_blocks": len(expected.rules)}))
    edited(own_copy / "result.json", folder=str(rescued))
    assert Run(own_copy).weights == rescued != run.weights
    x = torch.rand(3, 1, 6, 6)
    assert torch.equal(load(own_copy)(x), expected(x))


def test_a_file_that_is_no_network(tmp_path, trained_run):
    block = Run(trained_run).weights / "block-000.safetensors"
    refused(block, "the file is damaged, or no network", "it is no network that was saved", "Name the folder of a run")
    (tmp_path / "x.safetensors").write_bytes(b"nothing")
    refused(tmp_path / "x.safetensors", "the file is damaged, or no network")


def test_a_saved_network_that_was_flipped(tmp_path, trained_run):
    saved = load(trained_run).save(tmp_path / "net.safetensors")
    flip(saved)
    refused(saved, "the file is damaged", "its checksum is not the one that it states")


def test_a_saved_network_that_says_too_little(tmp_path, trained_run, monkeypatch):
    from pipeline.trained import network

    pack = network.pack
    monkeypatch.setattr(network, "pack", lambda tensors, about: pack(tensors, {**about, "threads": None}))
    refused(load(trained_run).save(tmp_path / "net.safetensors"), "the file says too little", "Save the network again")


@pytest.mark.parametrize("changes", [
    {"result": {"num_blocks": "many"}}, {"result": {}}, {"result": 3}, {"threads": "x"}, {"config": 3},
    {"network": {"input_shape": "abc"}}, {"result": {"num_blocks": 4}},
])  # fmt: skip
@pytest.mark.parametrize("own", ["rules/9/x", "rules/x", "rules/1/x"])
def test_a_saved_network_that_says_something_else(tmp_path, trained_run, monkeypatch, changes, own):
    from pipeline.trained import network

    pack = network.pack
    more = {own: torch.ones(1)}
    monkeypatch.setattr(network, "pack", lambda tensors, about: pack({**tensors, **more}, {**about, **changes}))
    refused(load(trained_run).save(tmp_path / "net.safetensors"), "the file says too little", "Save the network again")


def test_a_saved_network_holds_what_safetensors_say_and_replaces_a_file(tmp_path, trained_run):
    path = tmp_path / "net.safetensors"
    path.write_text("something else")
    network = load(trained_run)
    assert network.save(str(path)) == path and [p.name for p in tmp_path.iterdir()] == [path.name]
    content = path.read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    about = json.loads(header.pop("__metadata__")["about"])
    assert set(header) == set(network.state_dict())
    assert about["config"]["rule"]["name"] == "pred" and about["result"]["test"] == Run(trained_run)["test"]


def test_a_network_of_another_structure(tmp_path):
    runs.run(tmp_path / "run", {"train": {"epochs": 1}, "rule": {"name": "pred"}}, base=resumes.TINY,
             model=own_nets.named())  # fmt: skip
    refused(tmp_path / "run", "does not fit the weights of the run", "Unexpected key", model=own_nets.narrow())
    refused(tmp_path / "run", "does not fit the weights of the run", model=own_nets.parts())


def test_an_object_whose_structure_is_not_there(tmp_path):
    runs.run(tmp_path / "run", {"train": {"epochs": 1}, "rule": {"name": "pred"}}, base=resumes.TINY,
             model=own_nets.named())  # fmt: skip
    edited(tmp_path / "run" / "network.json", structure=None)
    refused(tmp_path / "run", "the network was handed over as an object", "onward.load(run, model=network)")
    assert load(tmp_path / "run", model=own_nets.named()).state_dict().keys() == own_nets.named().state_dict().keys()


def test_decoders_that_are_said_to_be_there_are(tmp_path, trained_run, monkeypatch):
    network = load(trained_run)
    own = network._own(whole=True)
    lost = next(iter(own))
    monkeypatch.setattr(network, "_own", lambda whole: {name: t for name, t in own.items() if name != lost})
    path = network.save(tmp_path / "net.safetensors", readouts=True)
    refused(path, "does not fit the weights of the file", f"missing: {lost.split('/', 2)[2]}")


def test_what_the_rules_keep_is_only_what_they_know(tmp_path, trained_run, monkeypatch):
    network = load(trained_run)
    monkeypatch.setattr(network, "_own", lambda whole: {"rules/1/more": torch.ones(1)})
    refused(network.save(tmp_path / "net.safetensors"), "does not fit the weights of the file", "unexpected: more")
