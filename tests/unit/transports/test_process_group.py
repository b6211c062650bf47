import os
import socket
import threading
import time
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
from tests.support.processes import results
from tests.support.stage_programs import fill_up, message, open_transport

from workers.transport import Edge, TransportTimeout
from workers.transports._group import door, ends, meeting
from workers.transports._mailbox import Mailbox

pytestmark = pytest.mark.distributed
EDGES = [(0, 1, 2, 64), (1, 0, 2, 64)]


def _existing_group(stage_index, folder):
    """As under torchrun: the default group is there before, and stays."""
    store = dist.FileStore(os.path.join(folder, "rendezvous"), 2)
    dist.init_process_group("gloo", store=store, rank=stage_index, world_size=2)
    for _ in range(2):
        transport = open_transport("process_group", stage_index, folder, EDGES)
        transport.send(message(torch.tensor(stage_index)), 1 - stage_index, 20.0)
        received = int(transport.recv(1 - stage_index, 20.0)[0].tensors[0])
        transport.close(20.0)
    total = torch.tensor(stage_index + 1)
    dist.all_reduce(total)
    with pytest.raises(ValueError, match=r"given: rank . of 2, expected: rank 0 of 3\). Start one rank for each"):
        open_transport("process_group", 0, folder, EDGES, num_stages=3)
    dist.destroy_process_group()
    return received, int(total)


def test_uses_the_group_that_exists(tmp_path):
    assert results(_existing_group, 2, tmp_path) == [(1, 3), (0, 3)]


def _twice_own(stage_index, folder):
    for _ in range(2):
        transport = open_transport("process_group", stage_index, folder, EDGES)
        transport.send(message(), 1 - stage_index, 20.0)
        transport.recv(1 - stage_index, 20.0)
        transport.close(20.0)
    return dist.is_initialized(), "GLOO_SOCKET_IFNAME" in os.environ, os.listdir(folder)


def test_own_group_goes_with_the_transport(tmp_path):
    """So that the same processes can open edges again in the same folder."""
    assert results(_twice_own, 2, tmp_path) == [(False, False, [])] * 2


def _alone(stage_index, folder):
    with pytest.raises(TransportTimeout) as missing:
        open_transport("process_group", stage_index, folder, EDGES, timeout_s=0.5)
    return str(missing.value), missing.value.__cause__ is not None, dist.is_initialized()


def test_a_stage_that_does_not_come(tmp_path):
    ((text, has_cause, is_initialized),) = results(_alone, 1, tmp_path)
    assert "stage 0: the 2 stages did not meet within 0.5 s" in text and has_cause
    assert not is_initialized


@pytest.mark.usefixtures("nothing_left")
def test_the_depth_of_the_queue_is_that_of_both_ends_together(tmp_path):
    assert results(fill_up, 2, tmp_path, "process_group", 0.5) == [3, 0]


@pytest.mark.usefixtures("nothing_left")
def test_over_send_and_receive_of_torch_each_end_holds_it(tmp_path):
    assert results(fill_up, 2, tmp_path, "tests.support.gloo_group", 0.5) == [6, 0]


def _with_a_stranger(stage_index, folder):
    """Somebody connects to stage 1 before stage 0 does, says something wrong, and is sent away."""
    heard = []
    if stage_index == 1:
        listen = meeting._listen

        def overheard():
            listener = listen()
            for text in (b"", b"hello?", bytes(24)):
                stranger = socket.create_connection(listener.getsockname()[:2])
                stranger.sendall(text)
                stranger.shutdown(socket.SHUT_WR)
                heard.append(stranger)
            return listener

        meeting._listen = overheard
    transport = open_transport("process_group", stage_index, folder, [(0, 1, 2, 64)])
    if stage_index == 0:
        transport.send(message(torch.tensor(7)), 1, 20.0)
        taken = None
    else:
        taken = int(transport.recv(0, 20.0)[0].tensors[0])
    transport.close(20.0)
    for stranger in heard:
        stranger.settimeout(20.0)
    return taken, [_ending(stranger) for stranger in heard]


def _ending(stranger):
    """What a socket that is sent away reads."""
    try:
        return stranger.recv(1)
    except ConnectionResetError:
        return b""


def test_a_stranger_at_the_door_is_sent_away(tmp_path):
    assert results(_with_a_stranger, 2, tmp_path) == [(None, []), (7, [b"", b"", b""])]


def _with_silent_strangers(stage_index, folder, count):
    """Somebody holds connections to stage 1 open and says nothing, or a byte now and then."""
    heard = []
    if stage_index == 1:
        listen = meeting._listen

        def overheard():
            listener = listen()
            for k in range(count):
                heard.append(socket.create_connection(listener.getsockname()[:2]))
                heard[-1].sendall(b"x" * k)
            return listener

        meeting._listen = overheard
    transport = open_transport("process_group", stage_index, folder, [(0, 1, 2, 64)], timeout_s=8.0)
    transport.close(20.0)
    return [_ending(stranger) for stranger in heard]


def test_those_who_say_nothing_hold_up_nobody(tmp_path):
    """One after another they would have taken 5 s each of the 8 there are."""
    assert results(_with_silent_strangers, 2, tmp_path, 4) == [[], [b""] * 4]


def test_one_who_says_nothing_is_sent_away(tmp_path, monkeypatch):
    monkeypatch.setattr(door, "HELLO_S", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as listener, door.Door(listener, bytes(16)) as entrance:
        with socket.create_connection(listener.getsockname()) as stranger:
            edge = Edge(0, 1, 2, 64)
            with pytest.raises(TransportTimeout, match="stage 0 did not open its end within 1 s"):
                list(entrance.let_in([edge], time.perf_counter() + 1.0, 1.0))
            stranger.settimeout(20.0)
            assert stranger.recv(1) == b""


def test_threads_of_an_end_begin_on_its_gpu(monkeypatch):
    """By default they would be on the first one, and a context there takes memory of the stage that has it."""
    done = []
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: done.append((threading.current_thread().name, device)))
    link = SimpleNamespace(device=torch.device("cuda:1"), wait_for_goodbye=lambda: done.append("waits"))
    end = ends._GroupEnd(Edge(0, 1, 2, 64), link)
    end.mailbox = Mailbox(2)
    thread, _ = end.threads
    thread.start()
    thread.join(20.0)
    assert done == [("edge 0->1", torch.device("cuda:1")), "waits"]
