"""``import onward``: the names that it offers, and what training by it does beyond training."""

import importlib
import subprocess
import sys
from pathlib import Path

import onward
import pytest
from tests.support import own_nets, resumes

from pipeline.config import Config
from pipeline.errors import ConfigError
from workers import front

ROOT = Path(__file__).resolve().parents[2]
TINY = {**resumes.TINY, "train": {"epochs": 1, "batch_size": 12}, "rule": {"name": "pred"}}


def test_it_is_a_thin_front():
    assert len((ROOT / "onward.py").read_text().splitlines()) < 80
    assert onward.__all__ == sorted(onward.__all__, key=lambda n: (not n[0].isupper(), n))
    for name in onward.__all__:
        found = getattr(onward, name)
        assert found is getattr(importlib.import_module(found.__module__), name) and name in dir(onward)


def test_importing_it_leaves_torch_out():
    code = "import sys, onward; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=60).returncode == 0


def test_an_unknown_name_is_told_with_those_there_are():
    with pytest.raises(AttributeError, match="module 'onward' has no attribute 'fit' .expected: Config, Run, Stop, c"):
        onward.fit


def test_another_package_of_that_name_is_refused(monkeypatch):
    monkeypatch.setattr("workers.__file__", "/elsewhere/workers/__init__.py")
    with pytest.raises(ImportError, match=r"another package named 'workers' is imported \(at /elsewhere"):
        importlib.reload(onward)


def test_a_run_by_tables_and_overrides_is_loaded_and_scored(tmp_path, capsys):
    run = onward.train(TINY, "train.epochs=2", out=tmp_path / "run", data_root=tmp_path, quiet=True)
    assert isinstance(run, onward.Run) and run.folder == tmp_path / "run" and run["epochs"] == 2
    assert onward.evaluate(run)["loss"] == run["test"]["loss"]
    assert isinstance(onward.load(run).blocks, tuple) and capsys.readouterr().out == ""


def test_a_run_is_what_it_came_to_also_where_the_disk_refuses_the_result(tmp_path, monkeypatch):
    train = front.runs.train

    def refused(*arguments, **named):
        table = train(*arguments, **named)
        (named["out"] / "result.json").unlink()
        return table

    monkeypatch.setattr(front.runs, "train", refused)
    run = onward.train(TINY, out=tmp_path / "run", data_root=tmp_path, quiet=True)
    assert run["status"] == "completed" and onward.evaluate(run)["loss"] == run["test"]["loss"]


def test_a_run_by_a_config_and_an_object_is_shown(tmp_path, capsys):
    mine = own_nets.named()
    run = onward.train(Config.from_dict(TINY), model=mine, out=str(tmp_path / "run"), data_root=str(tmp_path))
    assert "done: test accuracy" in capsys.readouterr().out
    mine.load_state_dict(onward.load(run).state_dict())


def test_a_run_by_a_file_that_names_no_folder_is_where_the_user_is(tmp_path, monkeypatch):
    from pipeline.config.toml_text import to_toml

    monkeypatch.chdir(tmp_path)
    Path("small.toml").write_text(to_toml(Config.from_dict(TINY).to_dict()))
    first, second = (onward.train("small.toml", quiet=True) for _ in range(2))
    assert first.folder.parent == tmp_path / "runs" and first.folder.name.startswith("small-")
    assert first.folder != second.folder and first["weights_sha256"] == second["weights_sha256"]


def test_a_mistake_leaves_no_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="unknown key"):
        onward.train(TINY, "train.epoch=3", quiet=True)
    with pytest.raises(ConfigError, match="unknown rule"):
        onward.train(TINY, "rule.name=predd", quiet=True)
    assert list(tmp_path.glob("runs/*")) == []


@pytest.mark.parametrize(("config", "overrides", "message"), [
    (None, [], r"this is no config \(given: NoneType, expected: a Config, tables of sections, .*Pass one of them"),
    ([("a", 1)], [], r"this is no config \(given: list, expected"),
    (TINY, [{"train": {"epochs": 2}}], r"an override is text \(given: dict, expected: \"section.key=value\""),
    ({1: 2}, [], r"unknown section \(given: 1, expected: seed"),
    ({"train": {1: 2}}, [], r"unknown key \(given: train\.1, expected: train\."),
    ({"model": {1: 2}}, [], r"unknown key \(given: model\.1, expected: "),
])  # fmt: skip
def test_a_config_that_is_none(tmp_path, config, overrides, message):
    with pytest.raises(ConfigError, match=message):
        onward.train(config, *overrides, out=tmp_path / "out", data_root=tmp_path, quiet=True)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("model", "message"), [
    ("nets.mine", r"given: model='nets\.mine', expected: an nn\.Sequential, or a list.*overrides: \"model\.name=nets"),
    (own_nets.named, r"given: model=named, which is to be called, expected: .*\. Call it: model=named\(\)\."),
    (own_nets.Residual, r"given: model=Residual, which is to be called"),
    ([own_nets.Residual(), "head"], r"given: model=list with str in it"),
    (3, r"given: model of int, .*Build the network, and pass that"),
])  # fmt: skip
@pytest.mark.parametrize("start", [onward.train, onward.compare])
def test_a_network_that_is_none(tmp_path, start, model, message):
    with pytest.raises(ConfigError, match=r"this is no network \(" + message):
        start(TINY, model=model, out=tmp_path / "out", data_root=tmp_path, quiet=True)
    assert not (tmp_path / "out").exists()


def test_a_comparison_of_what_is_none(tmp_path):
    with pytest.raises(ConfigError, match=r"rounds are counted .given: 1\.5, expected: a whole number from 1"):
        onward.compare(TINY, repeat=1.5, out=tmp_path / "out", quiet=True)
    with pytest.raises(ConfigError, match=r"modes are a list .given: against='backprop', expected: \['backprop'\]"):
        onward.compare(TINY, against="backprop", out=tmp_path / "out", quiet=True)
    for repeat in (0, -1):
        with pytest.raises(ConfigError, match=f"nothing would run .given: {repeat} rounds, expected: at least 1"):
            onward.compare(TINY, repeat=repeat, out=tmp_path / "out", quiet=True)
    assert not (tmp_path / "out").exists()


def test_a_comparison_by_import_says_its_lines_or_nothing(tmp_path, capsys):
    tables = {**TINY, "model": {**TINY["model"], "norm": "none"}}
    table = onward.compare(tables, against=["backprop"], out=tmp_path / "out", data_root=tmp_path)
    assert "parallel against backprop: " in capsys.readouterr().out
    again = onward.compare(tables, against=["backprop"], out=tmp_path / "again", data_root=tmp_path, quiet=True)
    assert capsys.readouterr().out == "" and again["arms"]["backprop"]["tests"] == table["arms"]["backprop"]["tests"]
