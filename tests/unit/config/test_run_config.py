import dataclasses
import tomllib
from pathlib import Path

import pytest

from pipeline.config import (
    ChaosConfig,
    Config,
    GateConfig,
    MeasureConfig,
    NamedConfig,
    RestartConfig,
    RunConfig,
    ScheduleConfig,
    SnapshotConfig,
    TrainConfig,
    TransportConfig,
    load_config,
)
from pipeline.config.toml_text import to_toml
from pipeline.errors import ConfigError

SECTIONS = (
    TrainConfig, ScheduleConfig, TransportConfig, RunConfig, MeasureConfig, NamedConfig, SnapshotConfig, RestartConfig,
    ChaosConfig, GateConfig,
)  # fmt: skip
CONFIGS = sorted((Path(__file__).parents[3] / "configs").glob("*.toml"))

# No value is the default one, so that a field that gets lost on the way is missed.
OTHER = {
    "seed": 7,
    "model": {"name": "vgg8b", "width": 0.5, "sizes": [1, 2], "on": True},
    "dataset": {"name": "mnist", "path": 'C:\\data "x"'},
    "rule": {"name": "pred", "dimdec": 100, "blocks": {"0-2": {"name": "sim"}, "last": {"dimdec": 7}}},
    "optimizer": {"name": "sgd", "lr": 1e-05, "milestones": [3, 5], "betas": [0.9, 0.99],
                  "blocks": {"4": {"lr": 0.5, "milestones": [7]}}},
    "train": {
        "epochs": 3, "batch_size": 8, "microbatches": 2, "in_flight": 4, "loss": "logistic",
        "classes_per_batch": 2, "classes_until_epoch": 4,
        "eval_every": 5, "patience": 3, "eval_batch_size": 6, "eval_passes": 7, "nonfinite": "skip",
        "freeze": "0-2", "init_from": "runs/a", "init_blocks": 3,
    },
    "schedule": {
        "mode": "sequential", "patience": 2, "tolerance": 0.5, "cache": "file", "cache_limit_bytes": 9,
    },
    "gate": {
        "form": "G1", "delay": 0.5, "ramp": 0.25, "train_for": 2.5, "tau": 0.02, "memory": 0.5, "start": "closed",
        "rest": 0.01, "probe_every": 7, "probe_samples": 9,
    },
    "transport": {"name": "inline", "depth": 9, "wire": "int8", "wire_at": [2, 1]},
    "run": {
        "stages": "blocks", "partition": [2, 1], "replicas": [1, 2], "device": "cpu", "threads": 3,
        "matmul_precision": "medium", "channels_last": True, "learn_after": "stage",
        "autocast": "bfloat16", "closed_form": False, "predict": False, "trace": True, "timeout_s": 2.5,
        "start_timeout_s": 7.5,
    },
    "measure": {
        "every": 2, "angles": False, "accuracies": False, "updates": False, "maps": True, "tsne": [0, 2],
        "probe_samples": 5, "readout_samples": 6, "tsne_samples": 7, "keep_weights": False,
    },
    "snapshot": {"every_steps": 3, "every_epochs": 4, "keep": 5},
    "restart": {"max_restarts": 6},
    "chaos": {
        "compute": "sleep", "compute_s": [0.5, 1.0], "delay_s": 0.25, "stage_delay_s": [0.0, 0.5], "delay": "random",
    },
}  # fmt: skip


def written(tmp_path, text):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    return path


def fields_of(config):
    """Every value of a config by its dotted key, down to the fields of the fixed sections."""
    found = {}
    for item in dataclasses.fields(config):
        value = getattr(config, item.name)
        if isinstance(value, SECTIONS):
            found |= {f"{item.name}.{f.name}": getattr(value, f.name) for f in dataclasses.fields(value)}
        else:
            found[item.name] = value
    return found


def test_round_trip_is_complete():
    config, default = Config.from_dict(OTHER), Config()
    same = [key for key, value in fields_of(config).items() if value == fields_of(default)[key]]
    # The table above names every field; models and data sets have no sections of blocks.
    assert same == ["model.blocks", "dataset.blocks"]
    assert config.to_dict() == OTHER
    assert Config.from_dict(tomllib.loads(to_toml(config.to_dict()))) == config


def test_defaults_are_written_out():
    table = Config().to_dict()
    assert Config.from_dict({}) == Config() == Config.from_dict(tomllib.loads(to_toml(table)))
    assert set(table) == {f.name for f in dataclasses.fields(Config)}
    assert set(table["train"]) == {f.name for f in dataclasses.fields(TrainConfig)}
    assert table["run"]["partition"] == "measured" and table["rule"] == {"name": "predsim"}


def test_a_section_without_a_name_keeps_the_default_one():
    config = Config.from_dict({"rule": {"beta": 0.5}})
    assert config.rule == NamedConfig(name="predsim", options={"beta": 0.5})


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_the_configs_that_come_with_it(path):
    loaded = load_config(path)
    assert loaded.name == path.stem
    assert Config.from_dict(tomllib.loads(to_toml(loaded.config.to_dict()))) == loaded.config


@pytest.mark.parametrize(
    ("text", "overrides", "key", "expected"),
    [
        ("", ["seed=3"], "seed", 3),
        ("seed = 1", ["seed=3", "seed=4"], "seed", 4),
        ("", ["train.epochs=5"], "train", TrainConfig(epochs=5)),
        ("[train]\nepochs = 9\nbatch_size = 7", ["train.epochs=5"], "train", TrainConfig(epochs=5, batch_size=7)),
        ("", ["schedule.mode=1f1b"], "schedule", ScheduleConfig(mode="1f1b")),
        ("", ['schedule.mode="gpipe"'], "schedule", ScheduleConfig(mode="gpipe")),
        ("", ["run.partition=[2, 1, 1]"], "run", RunConfig(partition=[2, 1, 1])),
        ("", ["run.stages=blocks"], "run", RunConfig(stages="blocks")),
        ("", ["run.stages=3", "run.timeout_s=7"], "run", RunConfig(stages=3, timeout_s=7.0)),
        ("", ["dataset.path=/a b/c"], "dataset", NamedConfig(name="digits", options={"path": "/a b/c"})),
        ("", ["dataset.path=a=b"], "dataset", NamedConfig(name="digits", options={"path": "a=b"})),
        ("", ["dataset.flip=true"], "dataset", NamedConfig(name="digits", options={"flip": True})),
        ("", ["rule.name=my.rules.Own"], "rule", NamedConfig(name="my.rules.Own")),
        # options belong to what is replaced ...
        ("[rule]\nname = 'predsim'\nbeta = 0.9", ["rule.name=pred"], "rule", NamedConfig(name="pred")),
        ("[rule]\nbeta = 0.9", ["rule.name=pred"], "rule", NamedConfig(name="pred")),
        ("[rule]\nbeta = 0.9", ["rule.name=pred", "rule.dimdec=4"], "rule",
         NamedConfig(name="pred", options={"dimdec": 4})),
        ("[model]\ndepth = 2", ["model.name=vgg8b"], "model", NamedConfig(name="vgg8b")),
        # ... and stay where nothing is, named or not
        ("[rule]\nname = 'pred'\ndimdec = 9", ["rule.name=pred"], "rule",
         NamedConfig(name="pred", options={"dimdec": 9})),
        ("[rule]\nbeta = 0.9", ["rule.name=predsim"], "rule", NamedConfig(name="predsim", options={"beta": 0.9})),
        # every optimizer has these three
        ("[optimizer]\nname = 'adam'\nlr = 0.1\nmilestones = [1]\ngamma = 0.5\nbetas = [0.9, 0.9]",
         ["optimizer.name=sgd"], "optimizer",
         NamedConfig(name="sgd", options={"lr": 0.1, "milestones": [1], "gamma": 0.5})),
        # a transport has no options of its own
        ("[transport]\ndepth = 9", ["transport.name=inline"], "transport", TransportConfig(name="inline", depth=9)),
    ],
)  # fmt: skip
def test_overrides(tmp_path, text, overrides, key, expected):
    config = load_config(written(tmp_path, text), overrides).config
    assert config == dataclasses.replace(Config(), **{key: expected})


@pytest.mark.parametrize(
    ("override", "text"),
    [
        ("epochs", r"cannot read the override \(given: 'epochs', expected: section\.key=value, e\.g\. train\.epo"),
        ("=3", r"cannot read the override \(given: '=3'"),
        ("train.=3", r"cannot read the override \(given: 'train\.=3'"),
        ("train.epochs.x=3", r"cannot read the override \(given: 'train\.epochs\.x=3'.*\. Correct it\."),
        ("seed.x=3", r"cannot override \(given: 'seed\.x=3'\): seed is a value, not a section\. Write seed=value\."),
        ("train=3", r"wrong value for train \(given: 3, expected: a section \[train\]\)\. Change it\."),
        ("rule=pred", r"wrong value for rule \(given: 'pred', expected: a section \[rule\]\)"),
        ("rule.name=3", r"wrong value for rule\.name \(given: 3, int, expected: text\)"),
        ("train.epochs=many", r"wrong value for train\.epochs \(given: 'many', str, expected: a whole number\)"),
        ("train.epochs=", r"wrong value for train\.epochs \(given: '', str, "),
    ],
)
def test_overrides_that_cannot_be_read(tmp_path, override, text):
    with pytest.raises(ConfigError, match=text):
        load_config(written(tmp_path, "seed = 1"), [override])


@pytest.mark.parametrize(
    ("table", "text"),
    [
        ({"trian": {}}, r"unknown section \(given: trian, expected: seed, model, .*, measure.*\)\. Did you mean "
                        r"'train'\? Correct or remove it\."),
        ({"zzz": {}}, r"unknown section \(given: zzz, .*\)\. Correct"),
        ({"train": {"epoch": 1}}, r"unknown key \(given: train\.epoch, expected: train\.epochs, .*\)\. "
                                  r"Did you mean 'epochs'\? Correct or remove it\."),
        ({"run": {"treads": 1}}, r"given: run\.treads, .*Did you mean 'threads'\?"),
        ({"schedule": {"cahce": "off"}}, r"Did you mean 'cache'\?"),
        ({"transport": {"dept": 1}}, r"Did you mean 'depth'\?"),
    ],
)  # fmt: skip
def test_misspelt_keys(table, text):
    with pytest.raises(ConfigError, match=text):
        Config.from_dict(table)


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("seed", "1", "a whole number"), ("seed", True, "a whole number"), ("seed", 1.0, "a whole number"),
        ("train.epochs", True, "a whole number"), ("train.batch_size", 2.5, "a whole number"),
        ("train.in_flight", "2", "a whole number"),
        ("schedule.tolerance", True, "a number"), ("schedule.cache", True, "'auto' or 'memory' or 'file' or 'off'"),
        ("transport.name", 3, "text"), ("transport.depth", [4], "a whole number"),
        ("run.stages", "two", "a whole number or 'auto' or 'blocks'"),
        ("run.stages", True, "a whole number or 'auto' or 'blocks'"),
        ("run.partition", [1, True], "'measured' or 'parameters' or a list in which each is a whole number"),
        ("run.device", "tpu", "'auto' or 'cpu' or 'cuda'"), ("run.timeout_s", "1", "a number"),
        ("run.matmul_precision", "low", "'highest' or 'high' or 'medium'"),
    ],
)  # fmt: skip
def test_wrong_types(key, value, expected):
    section, _, name = key.rpartition(".")
    with pytest.raises(ConfigError) as caught:
        Config.from_dict({section: {name: value}} if section else {name: value})
    given = f"{value!r}, {type(value).__name__}"
    assert str(caught.value) == f"wrong value for {key} (given: {given}, expected: {expected}). Change it."


MOST = "at most 2147483647"


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("seed", -1, "at least 0, at most 9223372036854775807"),
        ("train.epochs", 0, f"at least 1, {MOST}"), ("train.batch_size", 0, f"at least 1, {MOST}"),
        ("train.microbatches", -1, f"at least 0, {MOST}"), ("train.in_flight", 0, f"at least 1, {MOST}"),
        ("train.eval_every", 0, f"at least 1, {MOST}"), ("train.eval_batch_size", -1, f"at least 0, {MOST}"),
        ("train.eval_passes", 0, f"at least 1, {MOST}"),
        ("schedule.patience", 0, f"at least 1, {MOST}"), ("schedule.tolerance", -0.1, "at least 0, at most 1e30"),
        ("schedule.tolerance", float("nan"), "at least 0, at most 1e30"),
        ("schedule.cache_limit_bytes", -1, "at least 0, at most 9223372036854775807"),
        ("transport.depth", 0, "at least 1, at most 1000000"),
        ("run.stages", 0, f"at least 1, {MOST}"), ("run.threads", -1, "at least 0, at most 1024"),
        ("run.timeout_s", 0.0, "above 0, at most 1e6"), ("run.timeout_s", float("inf"), "above 0, at most 1e6"),
        ("run.timeout_s", float("nan"), "above 0, at most 1e6"),
        ("run.partition", [], "the number of blocks of each stage, at least 1 each"),
        ("run.replicas", [], "the number of processes of each stage, at least 1 each"),
        ("run.replicas", 0, f"at least 1, {MOST}"), ("run.replicas", [2, 0], f"each at least 1, {MOST}"),
        ("run.partition", [2, 0], "each at least 1, at most 2147483647"),
    ],
)  # fmt: skip
def test_ranges(key, value, expected):
    section, _, name = key.rpartition(".")
    with pytest.raises(ConfigError) as caught:
        Config.from_dict({section: {name: value}} if section else {name: value})
    assert str(caught.value) == f"wrong value for {key} (given: {value}, expected: {expected}). Change it."


def test_more_microbatches_than_samples():
    with pytest.raises(ConfigError) as caught:
        Config.from_dict({"train": {"batch_size": 4, "microbatches": 5}})
    assert str(caught.value) == (
        "cannot cut a batch of 4 into 5 micro-batches (train.microbatches: 5, expected: at most 4). Lower it."
    )
    assert Config.from_dict({"train": {"batch_size": 4, "microbatches": 4}}).train.microbatches == 4


def test_files_that_cannot_be_read(tmp_path):
    missing = tmp_path / "no.toml"
    with pytest.raises(ConfigError, match=r"cannot read the config \(given: .*no\.toml, No such file or directory\)\. "
                                          r"Name a TOML file, e\.g\. configs/digits\.toml\."):  # fmt: skip
        load_config(missing)
    with pytest.raises(ConfigError, match="cannot read the config .* Is a directory"):
        load_config(tmp_path)
    with pytest.raises(ConfigError, match=r"the config is not TOML \(given: .*mine\.toml, .*line 2.*\)\. Correct th"):
        load_config(written(tmp_path, "seed = 1\nx =\ny = 2"))
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match=r"the config is not TOML \(given: .*bytes\.toml, .*decode"):
        load_config(tmp_path / "bytes.toml")
