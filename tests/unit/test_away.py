"""The end of a rank that has lost rank 0, and how it names it."""

from itertools import count
from types import SimpleNamespace

import pytest

from pipeline.schedules.replicas import Replicas
from workers import away, last_words
from workers.host.identity import ProcessIdentity
from workers.hosts import GONE, StageHosts
from workers.last_words import SilentLeader
from workers.watch import ELSEWHERE_S

HOSTS = StageHosts((0, 0, 1, 1), ("node0", "node1"))
LOST = f": {GONE} It also coordinates, so every rank ends."


CLOCK = count(100.0, ELSEWHERE_S - 1)
"""Each look is so much later than the one before."""


class Ended(BaseException):
    """In place of the end of this process."""


def end(code):
    raise Ended(code)


@pytest.fixture
def said(monkeypatch):
    """What ends a rank."""
    found = []
    for module in (away, last_words):
        monkeypatch.setattr(module, "end_rank", lambda error, code=1: found.append(str(error)))
    clock = SimpleNamespace(sleep=lambda seconds: None, monotonic=CLOCK.__next__)
    monkeypatch.setattr(last_words, "time", clock)
    monkeypatch.setattr(away, "os", SimpleNamespace(_exit=end))
    return found


@pytest.mark.parametrize(
    ("replicas", "name", "beside"),
    [
        ((1, 2, 1), "stage 0/3", "stage 0/3; stage 1/3, replica 0/2"), ((1, 1, 1, 1), "stage 0/4", "stages 0, 1"),
        ((2, 2), "stage 0/2, replica 0/2", "stage 0/2, replica 0/2; stage 0/2, replica 1/2"),
    ],
)  # fmt: skip
def test_the_first_rank_of_a_host_names_rank_0_by_its_stage(said, replicas, name, beside):
    for rank in (2, 3):
        with pytest.raises(Ended):
            away.leader_lost(HOSTS, rank, Replicas(replicas))
    assert said == [f"[{name}] host node0 ({beside}){LOST}"]


def test_a_silent_rank_0_is_named_by_its_stage(said):
    silent = SilentLeader(ProcessIdentity("node0 elsewhere pid:[1]", 1, 1), 2, Replicas((2, 2)))
    silent()
    assert said == []
    silent()
    (text,) = said
    assert text.startswith("[stage 0/2, replica 0/2] nothing has been heard of it: ")
