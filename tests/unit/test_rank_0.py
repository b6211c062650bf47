"""How a rank finds rank 0, also while torchrun's store still holds where rank 0 was before a restart."""

import json
import socket
import threading

import pytest
from torch.distributed import HashStore

from pipeline.errors import WorkerFailed
from workers import ranks as places
from workers.control_port import ControlPort
from workers.rank_0 import find_rank_0
from workers.ranks import Ranks, store_of
from workers.run_key import given_key

LONG_S = 20.0
KEY = "a secret of this test"


@pytest.fixture
def store(monkeypatch):
    """torchrun's."""
    store = HashStore()
    monkeypatch.setattr(places, "_agent_store", lambda ranks: store)
    monkeypatch.setenv("ONWARD_KEY", KEY)
    for function in (places._begin_round, places._store_of_round):
        function.cache_clear()
    yield store
    for function in (places._begin_round, places._store_of_round):
        function.cache_clear()


def rank(number):
    """One of two, each on a host of its own."""
    return Ranks(rank=number, num_ranks=2, ranks_here=1, local_rank=0)


def begin(port):
    """What rank 0 does when it starts, and starts again."""
    places._begin_round.cache_clear()
    about = {"host": "127.0.0.1", "port": port, "key_file": None}
    store_of(rank(0)).set("control", json.dumps(about))


def closed_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def test_the_address_of_an_earlier_start_is_left_for_the_new_one(store, monkeypatch):
    monkeypatch.setattr("workers.rank_0.gpu_names", lambda: ("0", "1"))
    begin(closed_port())
    port = ControlPort(given_key(alone=False), "127.0.0.1", 2, with_freight=True)
    try:
        again = threading.Timer(0.5, begin, [port.port])
        again.start()
        found, line, freight = find_rank_0(rank(1), None, LONG_S)
        again.join(LONG_S)
        others = port.wait_for_ranks(LONG_S)
        assert found is places._store_of_round(rank(1), 2)
        assert others[1].about == {"local_rank": 0, "folder": None, "gpus": ["0", "1"]}
        for one in (line, freight, *others.values(), *port.freight.values()):
            one.connection.close()
    finally:
        port.close()


def test_rank_0_that_says_nothing_is_named(store):
    with pytest.raises(WorkerFailed, match=r"has not left its address .* store within 0 s \(run\.start_timeout_s\)\."):
        find_rank_0(rank(1), None, 0.2)


WORDS = [b"nothing", b"[]", b'{"host": "here"}', b'{"host": "x", "port": "y", "key_file": 1}']


@pytest.mark.parametrize("words", WORDS)
def test_what_is_no_address(store, words):
    begin(1)
    store_of(rank(0)).set("control", words)
    with pytest.raises(WorkerFailed, match="torchrun's store holds no address of rank 0"):
        find_rank_0(rank(1), None, LONG_S)


def test_every_start_of_rank_0_is_a_round(store):
    assert store_of(rank(1)) is not store_of(rank(0))  # before it, and after
    first = store_of(rank(1))
    assert places.is_newest(rank(1), first) and store_of(rank(0)) is not None
    places._begin_round.cache_clear()
    store_of(rank(0))
    assert not places.is_newest(rank(1), first)
