import os
import socket

import pytest
from tests.support.stage_programs import open_transport

from workers.transport import TransportTimeout


def test_a_path_too_long_for_a_socket(tmp_path):
    folder = tmp_path / ("x" * 100)
    folder.mkdir()
    with pytest.raises(ValueError, match=r"path of a Unix socket is too long .*0-1.*expected: at most 103\)"):
        open_transport("shared_memory", 1, folder, [(0, 1, 1, 64)])


def test_a_sender_that_never_comes_leaves_nothing_open(tmp_path):
    """Neither a descriptor nor a name, the one of an earlier start included."""
    path = str(tmp_path / "0-1")
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(path)  # as a start that was killed leaves it
    before = set(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else set()
    with pytest.raises(TransportTimeout, match=r"stage 0 -> stage 1: stage 0 did not open its end within 0\.2 s"):
        open_transport("shared_memory", 1, tmp_path, [(0, 1, 1, 64)], timeout_s=0.2)
    assert os.listdir(tmp_path) == []
    if before:
        assert set(os.listdir("/proc/self/fd")) == before
