"""The secret that ranks share: where it may come from, and proofs of it."""

import os
import stat

import pytest

from pipeline.errors import ConfigError
from workers import run_key as module
from workers.run_key import VARIABLE, KeyFile, given_key, read_key, seal, unseal


@pytest.fixture
def file():
    file = KeyFile()
    yield file
    file.remove()
    assert not file.path.parent.exists()


def test_a_key_file_is_this_users_alone(file):
    assert read_key(file.path) == file.key and len(file.key) == 32
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.path.parent.stat().st_mode) == 0o700


def refused(path, reason):
    with pytest.raises(ConfigError, match=f"the key of the run cannot be used .*{reason}.* set ONWARD_KEY"):
        read_key(path)


def test_a_file_that_others_can_read_is_no_key(file):
    file.path.chmod(0o640)
    refused(file.path, "it is open to others")
    file.path.chmod(0o600)
    file.path.parent.chmod(0o755)
    refused(file.path, "its folder is open to others")


def test_a_file_of_another_user_is_no_key(file, monkeypatch):
    monkeypatch.setattr(module.os, "getuid", lambda: 4711)
    refused(file.path, "its folder is open to others")


def test_links_pipes_and_files_of_another_size_are_no_keys(file, tmp_path):
    folder = file.path.parent
    (folder / "link").symlink_to(file.path)
    refused(folder / "link", "symbolic links")
    os.mkfifo(folder / "pipe", 0o600)
    refused(folder / "pipe", "it is open to others")
    for size in (0, 31, 33):
        (folder / "short").write_bytes(b"k" * size)
        (folder / "short").chmod(0o600)
        refused(folder / "short", f"it holds {size} bytes")
    refused(folder / "none", "No such file")
    refused(folder / "nu\0l", "null byte")


def test_the_key_in_the_environment(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    assert given_key(alone=True) is None
    monkeypatch.setenv(VARIABLE, "x" * 16)
    key = given_key(alone=False)
    assert key == given_key(alone=True) and len(key) == 32
    monkeypatch.setenv(VARIABLE, "x" * 17)
    assert given_key(alone=False) != key


@pytest.mark.parametrize(
    ("value", "alone", "text"),
    [
        (None, False, "ranks on several hosts need a key that they share .*openssl rand -hex 32"),
        ("short", True, r"the key in ONWARD_KEY is too short \(given: 5 characters, expected: at least 16\)"),
    ],
)
def test_a_key_that_is_missing_or_too_short(monkeypatch, value, alone, text):
    monkeypatch.delenv(VARIABLE, raising=False)
    if value is not None:
        monkeypatch.setenv(VARIABLE, value)
    with pytest.raises(ConfigError, match=text):
        given_key(alone=alone)


def test_a_seal_is_of_one_key_one_context_and_one_text():
    sealed = seal(b"key", b"context", b"text")
    assert unseal(b"key", b"context", sealed) == b"text"
    flipped = [sealed[:i] + bytes([sealed[i] ^ 1]) + sealed[i + 1 :] for i in range(len(sealed))]
    moved = seal(b"key", b"contextt", b"ext")
    for key, context, data in [(b"k", b"context", sealed), (b"key", b"c", sealed), (b"key", b"context", moved),
                               (b"key", b"context", b""), *((b"key", b"context", f) for f in flipped)]:  # fmt: skip
        with pytest.raises(ValueError, match="it was not sent by a holder of the run's key"):
            unseal(key, context, data)
