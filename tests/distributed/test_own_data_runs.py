"""Runs on data that were handed over: the bits of the same arrays in memory, in processes that read them from files."""

import json

import numpy as np
import pytest
import torch
from tests.support import resumes, runs
from tests.support.command import call
from torch.utils.data import TensorDataset

import onward
from pipeline.datasets import noise
from pipeline.errors import ConfigError

pytestmark = pytest.mark.distributed
BASE = runs.merged(resumes.TINY, {"train": {"epochs": 2}})
PROCESSES = {"run": {"stages": 2}, "transport": {"name": "shared_memory"}}
DATA = {key: value for key, value in BASE["dataset"].items() if key != "name"}


def arrays(root):
    """The samples of the data set of :data:`BASE`."""
    train, test = noise.build(root, **{**DATA, "shape": tuple(DATA["shape"])}).load()
    return {"train": (train.x, train.y), "test": (test.x, test.y)}


def handed(out, data, *changes, **options):
    config = {key: value for key, value in BASE.items() if key != "dataset"}
    for change in changes:
        config = runs.merged(config, change)
    return onward.train(config, data=data, out=out, quiet=True, **options)


def test_the_bits_of_arrays_in_memory(tmp_path):
    data = arrays(tmp_path)
    known = runs.run(tmp_path / "memory", base=BASE)
    for name, change in (("inline", {}), ("processes", PROCESSES)):
        found = handed(tmp_path / name, data, change)
        assert (found["weights_sha256"], found["test"]) == (known["weights_sha256"], known["test"])
    as_items = {name: TensorDataset(*pair) for name, pair in data.items()}
    assert handed(tmp_path / "items", as_items)["weights_sha256"] == known["weights_sha256"]
    assert len(list(tmp_path.glob("data-*"))) == 1  # written once


def test_a_validation_set_of_ones_own(tmp_path):
    data = arrays(tmp_path)
    x, y = data["train"]
    three = {"train": (x[10:], y[10:]), "validation": (x[:10], y[:10]), "test": data["test"]}
    one, two = handed(tmp_path / "one", three), handed(tmp_path / "two", three, PROCESSES)
    assert one["selection"]["validation_samples"] == 10
    assert (one["weights_sha256"], one["selection"]) == (two["weights_sha256"], two["selection"])
    with pytest.raises(ConfigError, match="there is a validation set already"):
        handed(tmp_path / "three", three, {"dataset": {"validation": 0.1}})


def test_a_part_held_out_of_mapped_samples(tmp_path):
    base = runs.merged(BASE, {"dataset": {"validation": 0.25}})
    known = runs.run(tmp_path / "memory", base=base)
    found = handed(tmp_path / "mapped", arrays(tmp_path), {"dataset": {"validation": 0.25}})
    assert (found["weights_sha256"], found["test"]) == (known["weights_sha256"], known["test"])


def test_scored_and_gone_on_with_later(tmp_path):
    data = arrays(tmp_path)
    run = handed(tmp_path / "run", data)
    assert onward.evaluate(run)["loss"] == run["test"]["loss"]
    sha256 = run.config.dataset.options["sha256"]
    assert json.loads((run.folder / "network.json").read_text())["data_sha256"] == sha256
    folder = next(tmp_path.glob("data-*"))
    longer = ["--resume", tmp_path / "run", "--allow-changes", "train.epochs=3"]
    folder.rename(tmp_path / "gone")
    for arguments in (["--evaluate", tmp_path / "run"], longer):
        status, _, error = call(*arguments)
        assert status == 2 and error.count("\n") == 1
        assert "the data that were handed over to the run are not there" in error
        assert sha256 in error
    onward.load(run)  # needs none
    moved = f"dataset.path={tmp_path / 'gone'}"
    assert onward.evaluate(run, moved)["loss"] == run["test"]["loss"]
    assert call(*longer, moved, "--quiet")[0] == 0
    again = handed(tmp_path / "again", data, {"train": {"epochs": 3}})
    assert onward.Run(tmp_path / "run")["weights_sha256"] == again["weights_sha256"]


def test_other_data_are_not_gone_on_with(tmp_path):
    data = arrays(tmp_path)
    handed(tmp_path / "run", data)
    labels = next(tmp_path.glob("data-*")) / "y_train.npy"
    changed = np.load(labels)
    changed[0] = (changed[0] + 1) % 4
    np.save(labels, changed)
    status, _, error = call("--resume", tmp_path / "run", "--allow-changes", "train.epochs=3")
    assert status == 2 and "the data are not those that the run began with" in error


def test_what_is_compared_are_the_same_data(tmp_path):
    config = {key: value for key, value in BASE.items() if key != "dataset"}
    table = onward.compare(
        runs.merged(config, {"train": {"epochs": 1}}), "run.stages=1", data=arrays(tmp_path), against=["backprop"],
        out=tmp_path / "compare", quiet=True,
    )  # fmt: skip
    assert set(table["arms"]) == {"parallel", "backprop"} and len(list(tmp_path.glob("data-*"))) == 1


def test_a_taken_folder_costs_no_writing(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "file").write_text("")
    with pytest.raises(ConfigError, match="the output folder is taken"):
        handed(tmp_path / "out", arrays(tmp_path))
    assert not list(tmp_path.glob("*data-*"))


def test_options_of_no_data_set_beside_data(tmp_path):
    with pytest.raises(ConfigError, match=r"given: dataset\.validaton .*Did you mean 'validation'\?"):
        handed(tmp_path / "out", arrays(tmp_path), {"dataset": {"validaton": 0.1}})
    assert not list(tmp_path.glob("*data-*"))


@pytest.mark.parametrize("words", [
    ["dataset.name=csv", "dataset.path={0}/text.csv", "dataset.test_path={0}/text.csv"],
    ["dataset.name=npz", "dataset.path={0}/none.npz"],
    ["dataset.name=mapped", "dataset.path={0}"],
    ["dataset.validation=1.5"],
    ["train.patience=2"],
    ["dataset.name=text", "dataset.validation=0.1"],
])  # fmt: skip
def test_one_line_and_exit_2(words, tmp_path):
    (tmp_path / "text.csv").write_text("1,2,red\n")
    status, _, error = call("--out", tmp_path / "out", *(word.format(tmp_path) for word in words))
    assert status == 2 and error.count("\n") == 1, error
    assert "(given: " in error or "(expected: " in error
    assert not (tmp_path / "out").exists()


def test_nan_that_is_handed_over(tmp_path):
    data = arrays(tmp_path)
    data["test"][0][3, 0, 0, 0] = torch.nan
    with pytest.raises(ConfigError, match=r"test inputs have a number that is nan, .* \(given: nan in sample 3"):
        handed(tmp_path / "out", data)
