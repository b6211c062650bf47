"""torchrun's store, and what a rank says of one that is gone."""

import re
import socket
import threading

import pytest
from torch.distributed import TCPStore

from pipeline.errors import WorkerFailed
from workers import agent_store as module
from workers import ranks as places
from workers.agent_store import is_lost, open_agent_store
from workers.rank_0 import find_rank_0
from workers.ranks import Ranks, origin_of

RANK_1 = Ranks(rank=1, num_ranks=2, ranks_here=1, local_rank=0)
GONE = r"\[stage {}/2\] torchrun's store at 127\.0\.0\.1:{} cannot be reached \([^\n]+\): torchrun has ended on that "


@pytest.fixture
def here(monkeypatch):
    """Says where torchrun's store is."""
    places._agent_store.cache_clear()
    places._store_of_round.cache_clear()
    places._begin_round.cache_clear()
    monkeypatch.setattr(module, "_REACH_S", 0.0)
    monkeypatch.setattr(module, "_lost", threading.Event())
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", "True")
    monkeypatch.setenv("ONWARD_KEY", "a secret of this test")
    yield lambda port: monkeypatch.setenv("MASTER_PORT", str(port))
    places._agent_store.cache_clear()
    places._store_of_round.cache_clear()
    places._begin_round.cache_clear()


def test_a_store_that_is_there(here, monkeypatch):
    monkeypatch.setattr(module, "_REACH_S", 20.0)
    server = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    here(server.port)
    open_agent_store(1, 2).set("key", "value")
    assert server.get("key") == b"value" and not is_lost()


def test_a_store_where_nobody_listens(here):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    here(port)
    with pytest.raises(WorkerFailed, match=GONE.format(1, port)):
        find_rank_0(RANK_1, None, 20.0)
    assert is_lost()
    with pytest.raises(WorkerFailed, match=GONE.format(0, port)):
        origin_of(Ranks(rank=0, num_ranks=2, ranks_here=1, local_rank=0), None, None)


def test_a_store_that_goes_while_rank_0_is_looked_for(here, monkeypatch):
    monkeypatch.setattr(module, "_REACH_S", 20.0)
    server = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    here(port := server.port)
    assert places.store_of(RANK_1).check(["control"]) is False
    del server
    with pytest.raises(WorkerFailed, match=re.compile(GONE.format(1, port))) as found:
        find_rank_0(RANK_1, None, 20.0)
    assert "\n" not in str(found.value)
