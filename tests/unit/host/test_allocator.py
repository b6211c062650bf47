"""The allocator's settings."""

import sys

import pytest

from workers.host import allocator


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's settings are Linux's")
def test_glibc_takes_the_settings():
    assert allocator.keep_freed_memory() is True


def test_elsewhere_nothing_is_set(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert allocator.keep_freed_memory() is False


def test_an_allocator_without_settings(monkeypatch):
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda name: object())
    assert allocator.keep_freed_memory() is False
