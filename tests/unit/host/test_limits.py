"""Limits of the system that a run meets: open files, and the length of a socket's path."""

import os
import resource
import tempfile

import pytest

from pipeline.errors import ConfigError
from workers.host import limits


def test_many_stages_need_many_files(monkeypatch):
    monkeypatch.setattr(limits.resource, "getrlimit", lambda _: (256, 256))
    with pytest.raises(ConfigError, match=r"given: 100 stages, ulimit -n 256; expected: at least 3\d\d\)"):
        limits.check_open_files(100)
    limits.check_open_files(4)


def test_without_a_limit_any_number_goes(monkeypatch):
    monkeypatch.setattr(limits.resource, "getrlimit", lambda _: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    limits.check_open_files(100_000)


@pytest.mark.parametrize(("hard", "raised"), [(4096, 4096), (resource.RLIM_INFINITY, 65_536), (1_000_000, 65_536)])
def test_the_limit_is_raised_as_far_as_it_goes(monkeypatch, hard, raised):
    made = []
    monkeypatch.setattr(limits.resource, "getrlimit", lambda _: (256, hard))
    monkeypatch.setattr(limits.resource, "setrlimit", lambda _, value: made.append(value))
    limits.raise_open_files()
    assert made == [(raised, hard)]


def test_a_limit_that_is_high_enough_is_left_alone(monkeypatch):
    monkeypatch.setattr(limits.resource, "getrlimit", lambda _: (100_000, 100_000))
    made = []
    monkeypatch.setattr(limits.resource, "setrlimit", lambda *limit: made.append(limit))
    limits.raise_open_files()
    assert made == []


def test_open_files_are_counted_where_there_is_no_proc(monkeypatch):
    monkeypatch.setattr(limits.os, "listdir", lambda _: (_ for _ in ()).throw(FileNotFoundError()))
    monkeypatch.setattr(limits.resource, "getrlimit", lambda _: (32, 32))
    with pytest.raises(ConfigError, match=r"expected: at least 33\)"):
        limits.check_open_files(2)


def test_temporary_files_move_where_paths_are_short(monkeypatch, tmp_path):
    long = tmp_path / ("x" * 110)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    limits.ensure_short_paths()
    assert len(tempfile.gettempdir()) <= limits.FOLDER_BYTES and os.access(tempfile.gettempdir(), os.W_OK)


def test_a_short_folder_stays(monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", "/tmp")
    limits.ensure_short_paths()
    assert tempfile.tempdir == "/tmp"


def test_where_no_short_folder_can_be_written_it_is_said(monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", "/" + "x" * 110)
    monkeypatch.setattr(limits.os, "access", lambda *_: False)
    with pytest.raises(ConfigError, match=r"given: /x+, 111 bytes, expected: at most 64\)\. Set TMPDIR"):
        limits.ensure_short_paths()
