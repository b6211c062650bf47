"""Pairs of processes that measure something: what comes back, and what is said when nothing does."""

import os
import time

import pytest

from benchmarks.pair import run_group, run_pair
from workers.host.fork_server import warm_up


def say_hello(index, peer, word):
    peer.send(f"{word} from {index}")
    return peer.recv()


def fail(index, peer):
    if index == 1:
        raise ValueError("no such thing")
    return peer.poll(20)


def die(index, peer):
    if index == 0:
        os._exit(3)
    peer.poll(20)


def sleep(index, peer):
    time.sleep(20 * index)


@pytest.fixture(autouse=True)
def _server():
    warm_up("noise")


def test_both_run_and_the_first_answers():
    assert run_pair(say_hello, "hello") == "hello from 1"


def test_an_error_comes_with_its_traceback():
    said = (
        r"(?s)processes that measure together failed \(given: process 1; it says: Traceback.*ValueError: no such thing"
        ".*Fix that"
    )
    with pytest.raises(RuntimeError, match=said):
        run_pair(fail)


def test_a_death_is_noticed():
    with pytest.raises(RuntimeError, match=r"failed \(given: process 0; it says: it died\)"):
        run_pair(die)


def test_a_hang_is_said_to_be_one(monkeypatch):
    run_pair(say_hello, "hello")  # the server has imported torch, so that the limit is for the hang alone
    monkeypatch.setattr("benchmarks.pair._GRACE_S", 0.2)
    with pytest.raises(RuntimeError, match=r"hung \(given: no answer of process 1 within 4 s\)"):
        run_pair(sleep, timeout_s=4.0)


def rank_of(index, size):
    return index, size


def test_a_group_has_as_many_as_there_are_arguments():
    assert run_group(rank_of, [(5,), (6,), (7,)], timeout_s=60.0) == (0, 5)


def test_the_last_of_a_group_may_fail():
    with pytest.raises(RuntimeError, match=r"(?s)failed \(given: process 2; it says: .*takes 2 positional arguments"):
        run_group(rank_of, [(5,), (6,), (7, 8)], timeout_s=60.0)
