"""What an evaluation may change, and what it refuses."""

import numpy as np
import pytest
import torch
from tests.support import resumes, runs

from pipeline.errors import ConfigError
from pipeline.trained.build import load
from pipeline.trained.scoring import evaluate
from pipeline.trained.sources import Run


def test_the_runs_own_figures_by_folder_run_and_network(trained_run):
    expected = Run(trained_run)["test"]
    for way in (trained_run, str(trained_run), Run(trained_run), load(trained_run)):
        found = evaluate(way)
        assert {"accuracy": found["accuracy"], "loss": found["loss"]} == expected
        assert (found["samples"], found["dataset"]) == (30, "noise")
        names = {"block", "test_accuracy", "test_loss", "test_metrics", "epochs_trained", "init_from"}
        assert [set(row) for row in found["blocks"]] == [names] * 4
        assert all((row["epochs_trained"], row["init_from"]) == (1, None) for row in found["blocks"])


def test_another_data_set_and_other_sizes(trained_run):
    own = evaluate(trained_run)
    other = evaluate(trained_run, "dataset.sample_seed=9", "dataset.num_test=17")
    assert other["samples"] == 17 and other["loss"] != own["loss"]
    again = evaluate(trained_run, "train.eval_batch_size=30", "run.threads=2", "run.device=cpu")
    assert again["loss"] == pytest.approx(own["loss"], rel=1e-5)


def test_the_last_classes_may_be_missing_in_another_data_set(trained_run, tmp_path):
    x, y = np.random.default_rng(0).random((12, 1, 6, 6)), np.arange(12) % 3  # of four classes
    np.savez(tmp_path / "three.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    found = evaluate(trained_run, "dataset.name=npz", f"dataset.path={tmp_path / 'three.npz'}")
    told = load(trained_run)(torch.from_numpy(x).float()).argmax(1)
    assert found["accuracy"] == (told == torch.from_numpy(y)).double().mean().item()


def test_a_network_that_is_being_trained_goes_on_being_trained(trained_run):
    network = load(trained_run).train()
    assert evaluate(network)["loss"] == Run(trained_run)["test"]["loss"] and network.training


def test_it_is_left_as_it_was_whatever_happens(trained_run, monkeypatch):
    network = load(trained_run).train()
    children = list(network.modules())
    children[3].eval()
    flags = [module.training for module in children]
    evaluate(network)
    assert [module.training for module in children] == flags and flags.count(False) == 1

    def failing(*arguments):
        raise MemoryError

    monkeypatch.setattr(network, "run", failing)
    with pytest.raises(MemoryError):
        evaluate(network)
    assert [module.training for module in children] == flags


def test_it_is_scored_where_it_is_and_in_its_own_numbers(trained_run, monkeypatch):
    moved = []
    network = load(trained_run)
    expected = evaluate(network)
    monkeypatch.setattr(network, "to", moved.append)
    assert evaluate(network) == expected and moved == []
    monkeypatch.undo()
    found = evaluate(network.double())
    assert found["loss"] == pytest.approx(expected["loss"], rel=1e-4)
    assert {p.dtype for p in network.parameters()} == {torch.float64}


def test_a_network_without_its_decoders_is_scored_as_a_whole(trained_run, tmp_path):
    found = evaluate(load(trained_run).save(tmp_path / "net.safetensors"))
    assert found["accuracy"] == Run(trained_run)["test"]["accuracy"]
    assert [row["test_accuracy"] for row in found["blocks"]] == [None, None, None, found["accuracy"]]


@pytest.mark.parametrize(
    ("override", "text"),
    [
        ("rule.beta=0.5", "an evaluation cannot change this .given: 'rule.beta=0.5', expected: dataset.key=value"),
        ("dataset.num_test=0", "wrong value for dataset.num_test"),
        ("dataset.name=signed_xor", "the data set does not fit the network .given: signed_xor"),
        ("dataset.num_classes=5", "the data set does not fit the network .* 5 outputs; expected: .1, 6, 6. and 4"),
        ("dataset.name=digit", "unknown data set"),
        ("dataset.name=mnist", "MNIST"),
        ("dataset.name", "cannot read the override"),
        ("run.device=cuda", "there is no CUDA device"),
    ],
)
def test_what_is_refused(trained_run, tmp_path, monkeypatch, override, text):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    more = ["dataset.download=false"] if "mnist" in override else []
    with pytest.raises(ConfigError, match=text):
        evaluate(trained_run, override, *more, data_root=tmp_path)


def test_logistic_units_are_scored_as_such_whoever_says_what_the_task_is(tmp_path):
    """The run's own files, or, of a run of an earlier version, its data set."""
    base = runs.merged(resumes.TINY, {"train": {"epochs": 1, "loss": "logistic"}, "rule": {"name": "pred"}})
    own = runs.run(tmp_path / "run", base=base)["test"]["loss"]
    assert evaluate(tmp_path / "run")["loss"] == own
    (tmp_path / "run" / "network.json").unlink()
    assert evaluate(tmp_path / "run")["loss"] == own
    with pytest.raises(ConfigError, match="the data set does not fit the network .given: signed_xor"):
        evaluate(tmp_path / "run", "dataset.name=signed_xor")
