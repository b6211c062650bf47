"""A small run, trained once for all tests of this folder; copied where a test damages it."""

import shutil

import pytest
from tests.support import resumes, runs

SMALL = {"train": {"epochs": 1}, "rule": {"name": "pred"}, "snapshot": {"keep": 1}}


@pytest.fixture(scope="session")
def trained_run(tmp_path_factory):
    out = tmp_path_factory.mktemp("trained") / "run"
    runs.run(out, SMALL, base=resumes.TINY)
    return out


@pytest.fixture
def own_copy(trained_run, tmp_path):
    shutil.copytree(trained_run, tmp_path / "run")
    return tmp_path / "run"
