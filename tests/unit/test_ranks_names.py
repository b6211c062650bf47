"""What a rank says when it cannot know where rank 0 is."""

import re
import socket

import pytest

from pipeline.errors import ConfigError
from workers import ranks as module
from workers.ranks import Ranks, store_of


@pytest.fixture
def nowhere(monkeypatch):
    def unknown(name, port):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(module.socket, "getaddrinfo", unknown)
    monkeypatch.setattr(module.platform, "node", lambda: "node1")
    monkeypatch.setattr(module, "wait_for_first", lambda: None)
    monkeypatch.setenv("MASTER_ADDR", "node0")


def rank(local_rank):
    return Ranks(rank=2 + local_rank, num_ranks=4, ranks_here=2, local_rank=local_rank)


def test_the_first_rank_of_the_host_says_it(nowhere):
    text = (
        "this host does not know the address of rank 0's host (given: MASTER_ADDR=node0 on node1, [Errno -2] Name or "
        "service not known). Add the name to /etc/hosts, or give torchrun on rank 0's host --local-addr with its "
        "address."
    )
    with pytest.raises(ConfigError, match=re.escape(text)):
        store_of(rank(0))


def test_the_others_end_with_the_same_status(nowhere):
    with pytest.raises(SystemExit) as end:
        store_of(rank(1))
    assert end.value.code == 2
