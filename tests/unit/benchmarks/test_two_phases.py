"""Two runs, one from the other's weights, and what a table reads of both."""

import json

import pytest

from benchmarks import two_phases
from benchmarks.accuracy.attempt import summary
from benchmarks.accuracy.cell import Cell
from benchmarks.accuracy.metrics import last, phase
from pipeline.config import load_config
from pipeline.config.toml_text import to_toml

CONFIG = {
    "model.name": "mlp", "model.depth": 1, "model.width": 12, "model.norm": "none", "model.activation": "tanh",
    "dataset.name": "digits", "dataset.validation": 0.2, "rule.name": "lra_fdbk", "train.epochs": 3,
    "optimizer.lr": 0.02, "optimizer.milestones": [], "train.batch_size": 100, "transport.name": "inline",
}  # fmt: skip
THEN = ["--then", "rule.name=backprop", "--then", "optimizer.name=sgd", "--then", "optimizer.lr=0.1"]


def arguments(folder, changes=None, then=THEN):
    (folder / "config.toml").write_text(to_toml(Cell("one", {**CONFIG, **(changes or {})}, []).nested(0)))
    return ["--config", str(folder / "config.toml"), "--out", str(folder / "run"), "--data-root", str(folder), *then]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("phases")
    assert two_phases.main(arguments(folder)) == 0
    return folder


def read(path):
    return json.loads(path.read_text())


def test_the_second_run_starts_from_the_last_epoch_of_the_first(folder):
    first, second = (read(folder / name / "result.json") for name in ("run-first", "run"))
    assert (first["rule"], second["rule"]) == ("lra_fdbk", "backprop")
    assert first["selection"]["epoch"] == 2
    assert second["init_from"]["weights_sha256"] == first["weights_sha256"] != second["weights_sha256"]


def test_errors_of_both_are_those_of_the_runs(folder):
    run = summary(folder / "run")
    assert set(run["phases"]["first"]) | {"epoch"} == set(run["phases"]["second"])
    for name, out in (("first", "run-first"), ("second", "run")):
        result = read(folder / out / "result.json")
        validation = 100 * (1 - result["selection"]["validation"]["accuracy"])
        assert phase(name, "validation")(run) == pytest.approx(validation, abs=1e-3)
    assert phase("second", "test")(run) == last(run)
    assert phase("second", "epoch")(run) == read(folder / "run" / "result.json")["selection"]["epoch"] + 1
    assert phase("second", "train")(run) < phase("first", "train")(run) < 60
    assert phase("first", "test")({"errors": [2.0]}) is None


def test_both_have_the_same_samples_for_validation(folder):
    configs = [load_config(folder / name / "config.toml").config for name in ("run-first", "run")]
    assert configs[0].dataset == configs[1].dataset and configs[0].seed == configs[1].seed
    assert [config.train.eval_every for config in configs] == [3, 1]


@pytest.mark.parametrize(
    ("changes", "then", "said"),
    [
        ({"dataset.validation": 0.0}, THEN, "given: no dataset.validation, expected: the share of the training"),
        ({}, ["--then", "seed=1"], "(given: --then seed=1, expected: the seed and the [dataset] of the config)"),
        ({}, ["--then", "dataset.validation=0.1"], "both runs have one validation set (given: --then dataset.validati"),
        ({}, ["--then", "rule.name=nothing"], "unknown rule (given: 'nothing'"),
    ],
)
def test_phases_that_do_not_fit_are_the_users_mistake(capsys, tmp_path, changes, then, said):
    assert two_phases.main(arguments(tmp_path, {"train.epochs": 1, **changes}, then)) == 2
    err = capsys.readouterr().err
    assert said in err and err.count("\n") == 1
    assert not (tmp_path / "run").exists() and not (tmp_path / "run-first").exists()
