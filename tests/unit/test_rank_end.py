"""What a rank tells the others where it ends before they have met."""

import threading

import pytest
from torch.distributed import HashStore

from pipeline.pickles import trusted
from workers import agent_store, messages, rank_lines
from workers import rank_end as module
from workers import ranks as places
from workers import visit as visiting
from workers.rank_end import tell_other_hosts
from workers.host.identity import ProcessIdentity
from workers.rank_0 import find_rank_0
from workers.rank_lines import RankLines
from workers.ranks import Ranks, store_of

LONG_S = 20.0
ELSEWHERE = ProcessIdentity("node1 another-boot pid:[1]", 7, 7)


def rank(number):
    """One of two, each on a host of its own."""
    return Ranks(rank=number, num_ranks=2, ranks_here=1, local_rank=0)


class Visitor(ProcessIdentity):
    """Of the other host."""

    own = staticmethod(lambda: ELSEWHERE)


@pytest.fixture
def being(monkeypatch):
    """Makes this process a rank that torchrun has started, with its store."""
    store = HashStore()
    monkeypatch.setattr(places, "_agent_store", lambda ranks: store)
    monkeypatch.setattr(places.Ranks, "have_met", False)
    monkeypatch.setattr(agent_store, "_lost", threading.Event())
    monkeypatch.setattr(module, "die_with_parent", lambda: None)
    monkeypatch.setattr(visiting, "ProcessIdentity", Visitor)
    monkeypatch.setattr(rank_lines, "use_interface", lambda address: None)
    for name, value in {"ONWARD_KEY": "a secret of this test", "MASTER_ADDR": "127.0.0.1", "LOCAL_RANK": "0",
                        "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "1"}.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    for function in (places._begin_round, places._store_of_round):
        function.cache_clear()
    yield lambda number: monkeypatch.setenv("RANK", str(number))
    for function in (places._begin_round, places._store_of_round):
        function.cache_clear()


def in_background(function, *args):
    thread = threading.Thread(target=function, args=args, daemon=True)
    thread.start()
    return thread


@pytest.mark.parametrize(("code", "text"), [(2, "no such run"), (1, "the system refused")])
def test_rank_0_tells_those_who_come(being, code, text):
    being(0)
    told = in_background(tell_other_hosts, text, code)
    _, line, freight = find_rank_0(rank(1), None, LONG_S)
    assert trusted(line.receive())[2] is None
    assert messages.receive(line.connection) == ("verdict", {"text": text, "code": code})
    told.join(LONG_S)
    assert not told.is_alive()
    line.connection.close()
    freight.connection.close()


def test_rank_0_waits_for_nobody_for_ever(being, monkeypatch):
    monkeypatch.setattr(module, "_PATIENCE_S", 0.1)
    being(0)
    tell_other_hosts("no such run", 2)
    assert Ranks.have_met


def test_nobody_is_waited_for_twice(being, monkeypatch):
    """Also where telling them has failed before they could come."""
    asked = []
    monkeypatch.setattr(rank_lines, "RankLines", lambda *args, **kwargs: asked.append(args))
    being(0)
    for _ in range(2):
        tell_other_hosts("no such run", 2)
    assert len(asked) == 1


def test_another_rank_tells_rank_0_once_that_has_its_job(being, monkeypatch):
    monkeypatch.setattr(module.platform, "node", lambda: "node1")
    being(1)
    told = in_background(tell_other_hosts, "no such key", 2)
    lines = RankLines(store_of(rank(0)), 2, LONG_S, alone=False)
    lines._broadcast([None, "a job"])
    assert lines.all[1].poll(LONG_S)
    body = {"stage": 1, "kind": "ConfigError", "message": "node1: no such key", "text": "node1: no such key"}
    assert messages.receive(lines.all[1]) == ("failed", body)
    for connection in (*lines.all, *(line.connection for line in lines._port.freight.values())):
        connection.close()
    told.join(LONG_S)
    assert not told.is_alive()


@pytest.mark.parametrize(
    "about",
    [{"RANK": None}, {"LOCAL_WORLD_SIZE": "2"}, {"ONWARD_KEY": None}, {"met": True}, {"code": 130}, {"lost": True}],
)
@pytest.mark.parametrize("number", [0, 1])
def test_there_is_nobody_to_tell(being, monkeypatch, about, number):
    """No torchrun, one host, no key, ranks that have met, a signal, torchrun's store gone."""
    being(number)
    about = dict(about)
    if about.pop("lost", False):
        agent_store._lost.set()
    code = about.pop("code", 2)
    monkeypatch.setattr(places.Ranks, "have_met", about.pop("met", False))
    for name, value in about.items():
        monkeypatch.setenv(name, value) if value is not None else monkeypatch.delenv(name)
    waited = []
    monkeypatch.setattr("workers.control_port.ControlPort.wait_for_ranks", lambda *args: waited.append(0))
    monkeypatch.setattr("workers.rank_0._with_address", lambda *args: waited.append(1))
    tell_other_hosts("no such run", code)
    assert waited == []
