import pytest
import torch
from tests.support.stage_programs import message, open_transport

from workers.transport import TransportTimeout

EDGES = [(0, 1, 2, 64)]


@pytest.fixture
def ends(tmp_path):
    pair = [open_transport("inline", s, tmp_path, EDGES) for s in (0, 1)]
    yield pair
    for end in pair:
        end.abort()


def test_asks_before_it_calls(ends):
    first, second = ends
    assert first.can_send(1) and not second.can_recv(0)
    first.send(message(torch.zeros(4)), 1, 9.0)
    first.send(message(torch.zeros(8)), 1, 9.0)
    assert not first.can_send(1) and second.can_recv(0) and second.fill(0) == 2
    assert first.queue_bytes() == 48


def test_no_other_stage_could_run_so_nothing_waits(ends):
    first, second = ends
    with pytest.raises(TransportTimeout, match="stage 0 -> stage 1: nothing came"):
        second.recv(0, 9.0)
    first.send(message(), 1, 9.0)
    first.send(message(), 1, 9.0)
    with pytest.raises(TransportTimeout, match=r"stage 0 -> stage 1: no room .*queue depth: 2"):
        first.send(message(), 1, 9.0)
    with pytest.raises(TransportTimeout, match="stage 0 -> stage 1: stage 1 did not take all"):
        first.close(9.0)


def test_an_end_that_left(ends):
    first, second = ends
    first.send(message(step=3), 1, 9.0)
    first.abort()
    assert second.recv(0, 9.0)[0].position.step == 3, "what was sent can still be received"
    with pytest.raises(TransportTimeout, match="stage 0 -> stage 1: stage 0 is gone"):
        second.recv(0, 9.0)
    with pytest.raises(ValueError, match="stage 0 has no open edge .*the transport is closed"):
        first.send(message(), 1, 9.0)


def test_a_receiver_that_left(ends):
    first, second = ends
    second.close(9.0)
    with pytest.raises(TransportTimeout, match="stage 0 -> stage 1: stage 1 is gone"):
        first.send(message(), 1, 9.0)


def test_edges_go_one_way(ends):
    with pytest.raises(ValueError, match=r"stage 1 has no open edge .* with stage 0 \(given: 0"):
        ends[1].send(message(), 0, 9.0)
    with pytest.raises(ValueError, match="given: 1, expected: none"):
        ends[0].can_recv(1)


def test_pipelines_in_other_folders_never_meet(ends, tmp_path):
    ends[0].send(message(), 1, 9.0)
    other = [open_transport("inline", s, tmp_path / "other", EDGES) for s in (0, 1)]
    assert other[1].fill(0) == 0
    for end in other:
        end.close(0.0)
    again = open_transport("inline", 1, tmp_path / "other", EDGES)
    assert again.fill(0) == 0
    again.abort()
