"""Loggers by name: those there are, those of the user's own, and those whose package is missing."""

import sys

import pytest
from tests.support import own_loggers

from pipeline.errors import ConfigError
from workers.listening.logger import loggers_named
from workers.loggers import csv


def test_names_stand_apart_or_together():
    ((name, log), (other, mine)) = loggers_named(["csv,tests.support.own_loggers.kept"])
    assert (name, log, other, mine) == ("csv", csv.build, "tests.support.own_loggers.kept", own_loggers.kept)
    assert loggers_named([]) == [] and loggers_named(["csv"]) == loggers_named("csv") == [("csv", csv.build)]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["csw"], r"unknown logger .given: 'csw', expected: csv, tensorboard, trackio, wandb, .*Did you mean 'csv'"),
        (["csv,"], "unknown logger .given: ''"),
        ([own_loggers.kept], "a logger is named .given: <function kept at .*, expected: a name, or a dotted name of a"),
        (["csv", "csv"], "a logger is named twice .given: --log csv and again.. Leave one of them out"),
        (["tests.support.own_loggers.short"], "not a logger .given: --log tests.*short, expected: a function of a run"),
        (["tests.support.own_loggers"], r"defines no build\(\) .given: 'tests.support.own_loggers'"),
    ],
)
def test_what_is_no_logger_is_refused(given, message):
    with pytest.raises(ConfigError, match=message):
        loggers_named(given)


@pytest.mark.parametrize("name", ["tensorboard", "trackio", "wandb"])
def test_a_package_that_is_not_installed_is_named(monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, f"workers.loggers.{name}", raising=False)
    monkeypatch.delitem(sys.modules, "torch.utils.tensorboard", raising=False)
    with pytest.raises(ConfigError, match=f"the logger '{name}' needs a package that is not installed .given: --log "):
        loggers_named([name])


def test_a_package_that_is_broken_is_named(monkeypatch, tmp_path):
    (tmp_path / "wandb.py").write_text("from json import nothing_of_that_name\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    monkeypatch.delitem(sys.modules, "workers.loggers.wandb", raising=False)
    with pytest.raises(ConfigError, match="the package of the logger 'wandb' cannot be imported .given: --log wandb, "):
        loggers_named(["wandb"])
