from importlib import metadata
from pathlib import Path

import pytest

from pipeline import places
from pipeline.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]


def test_the_default_config_is_that_of_the_checkout():
    assert places.default_config() == ROOT / "configs" / "digits.toml"


def test_of_an_installed_distribution_it_is_found_by_its_files(tmp_path, monkeypatch):
    there = tmp_path / "share" / "digits.toml"
    there.parent.mkdir()
    there.write_text("seed = 1")
    file = metadata.PackagePath("share/digits.toml")
    file.dist = metadata.PathDistribution(tmp_path / "x.dist-info")
    monkeypatch.setattr(places, "_ROOT", tmp_path)
    monkeypatch.setattr(metadata, "files", lambda name: [metadata.PackagePath("pipeline/x.py"), file])
    assert places.default_config() == there
    there.unlink()
    with pytest.raises(ConfigError, match="the default config is not there .*Name a file with --config"):
        places.default_config()


def test_neither_a_checkout_nor_a_distribution(tmp_path, monkeypatch):
    def lost(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(places, "_ROOT", tmp_path)
    monkeypatch.setattr(metadata, "files", lost)
    with pytest.raises(ConfigError, match="the default config is not there"):
        places.default_config()


def test_data_sets_lie_where_it_is_said_else_in_the_cache_else_here(tmp_path, monkeypatch):
    monkeypatch.setenv("ONWARD_DATA", str(tmp_path))
    assert places.default_data_root() == tmp_path
    monkeypatch.delenv("ONWARD_DATA")
    monkeypatch.setenv("HOME", "/home/somebody")
    assert places.default_data_root() == Path("/home/somebody/.cache/onward")

    def lost():
        raise RuntimeError("no home")

    monkeypatch.setattr(Path, "home", lost)
    monkeypatch.chdir(tmp_path)
    assert places.default_data_root() == tmp_path / "data"
