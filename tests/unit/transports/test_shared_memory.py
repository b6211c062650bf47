import os
import socket

import pytest
import torch
from tests.support.processes import results, sign, wait_for
from tests.support.stage_programs import fill_up, message, open_transport

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


def _give_up(stage_index, folder):
    """A message of many pieces runs out of time in the middle; another one follows."""
    transport = open_transport("shared_memory", stage_index, folder, [(0, 1, 2, 64)])
    if stage_index == 0:
        with pytest.raises(TransportTimeout, match=r"no room within 0\.2 s"):
            transport.send(message(torch.zeros(1000), step=1), 1, 0.2)
        sign(folder, "cut")
        transport.send(message(torch.ones(1000), step=2), 1, 20.0)
        transport.send(message(torch.ones(1), step=3), 1, 20.0)
        transport.close(20.0)
        return None
    wait_for(folder, "cut")
    received = [transport.recv(0, 20.0)[0] for _ in range(2)]
    transport.close(20.0)
    return [(m.position.step, float(m.tensors[0].sum())) for m in received]


@pytest.mark.distributed
@pytest.mark.usefixtures("nothing_left")
def test_half_a_message_is_forgotten(tmp_path):
    assert results(_give_up, 2, tmp_path)[1] == [(2, 1000.0), (3, 1.0)]


def _alone(stage_index, folder, edges):
    with pytest.raises(TransportTimeout) as missing:
        open_transport("shared_memory", stage_index, folder, edges, timeout_s=0.5)
    return str(missing.value)


@pytest.mark.distributed
@pytest.mark.usefixtures("nothing_left")
@pytest.mark.parametrize("edges", [[(0, 1, 1, 8)], [(1, 0, 1, 8)]])
def test_a_stage_that_does_not_come(edges, tmp_path):
    (text,) = results(_alone, 1, tmp_path, edges)
    assert f"stage {edges[0][0]} -> stage {edges[0][1]}: stage 1 did not open its end within 0.5 s" in text


@pytest.mark.distributed
@pytest.mark.usefixtures("nothing_left")
def test_the_queue_is_the_slots(tmp_path):
    assert results(fill_up, 2, tmp_path, "shared_memory", 0.3) == [3, 0]
