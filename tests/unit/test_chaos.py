"""Delays and their distributions, over queues of one thread, where nothing else takes time."""

import statistics
import time
from dataclasses import replace

import pytest
import torch
from tests.support.stage_programs import message

from pipeline.config import ChaosConfig, Config
from pipeline.errors import ConfigError
from workers import chaos as module
from workers.chaos import Delays, check_chaos, delays_of_stage, with_delays
from workers.transport import Edge, Endpoint, InProcessTransport, open_transport

EDGES = (Edge(0, 1, 4, 256), Edge(1, 2, 4, 256), Edge(2, 0, 4, 256))


def ends(folder, edges=EDGES, **chaos):
    """The transports of three stages in one process."""
    found = []
    for stage in range(3):
        endpoint = Endpoint(stage, 3, edges, str(folder), 1.0, "cpu")
        found.append(with_delays(open_transport("inline", endpoint), ChaosConfig(**chaos), 7, endpoint))
    return found


def test_without_delays_the_transport_is_the_same_object(tmp_path):
    endpoint = Endpoint(0, 3, EDGES, str(tmp_path), 1.0, "cpu")
    transport = open_transport("inline", endpoint)
    assert with_delays(transport, ChaosConfig(), 7, endpoint) is transport


def test_a_message_is_not_received_before_its_delay_has_passed(tmp_path):
    first, second, _ = ends(tmp_path, delay_s=0.05)
    assert isinstance(second, InProcessTransport) and first.can_send(1)
    start = time.monotonic()
    first.send(message(torch.arange(3)), 1, 1.0)
    received, waited = second.recv(0, 1.0)
    assert time.monotonic() - start >= 0.05 and 0 < waited <= time.monotonic() - start
    assert [t.tolist() for t in received.tensors] == [[0, 1, 2]]


def test_messages_are_on_their_way_at_the_same_time(tmp_path, monkeypatch):
    slept = []
    monkeypatch.setattr(module.time, "sleep", slept.append)
    clock = [100.0]
    monkeypatch.setattr(module.time, "time", lambda: clock[0])
    first, second, _ = ends(tmp_path, delay_s=10.0)
    for moment in (100.0, 101.0, 102.0):
        clock[0] = moment
        first.send(message(torch.zeros(1)), 1, 1.0)
    clock[0] = 108.0
    second.recv(0, 1.0)
    clock[0] = 111.5
    second.recv(0, 1.0)
    second.recv(0, 1.0)
    assert slept == [2.0, 0.5]


@pytest.mark.parametrize(("depth", "expected"), [(1, [10.0, 10.0, 10.0]), (2, [10.0, 10.0]), (3, [10.0])])
def test_no_more_messages_are_on_their_way_than_the_queue_has_room_for(tmp_path, monkeypatch, depth, expected):
    """Three messages are sent as early as the queue takes them; one that has waited for room is late from then on."""
    clock, slept, left = [100.0], [], [1, 2]
    first, second, _ = ends(tmp_path, tuple(replace(edge, depth=depth) for edge in EDGES), delay_s=10.0)

    def send_what_fits():
        while left and first.can_send(1):
            first.send(message(torch.tensor(left.pop(0))), 1, 1.0)

    def sleep(seconds):
        send_what_fits()
        slept.append(seconds)
        clock[0] += seconds

    monkeypatch.setattr(module.time, "time", lambda: clock[0])
    monkeypatch.setattr(module.time, "sleep", sleep)
    first.send(message(torch.tensor(0)), 1, 1.0)
    send_what_fits()
    assert [int(second.recv(0, 1.0)[0].tensors[0]) for _ in range(3)] == [0, 1, 2]
    assert slept == expected


def test_a_clock_that_is_behind_does_not_make_a_message_later_than_its_delay(tmp_path, monkeypatch):
    slept = []
    monkeypatch.setattr(module.time, "sleep", slept.append)
    first, second, _ = ends(tmp_path, delay_s=0.25)
    first.send(message(torch.zeros(1)), 1, 1.0)
    monkeypatch.setattr(module.time, "time", lambda: 0.0)
    second.recv(0, 1.0)
    assert slept == [0.25]


@pytest.mark.parametrize(
    ("kind", "least", "most"), [("constant", 2.0, 2.0), ("random", 0.0, 4.0), ("straggler", 0.0, 20.0)]
)
def test_every_kind_has_the_same_mean_and_is_the_same_in_every_run(kind, least, most):
    delays, again = Delays(2.0, kind, 3, "link", 0, 1), Delays(2.0, kind, 3, "link", 0, 1)
    drawn = [delays.next() for _ in range(4000)]
    assert statistics.mean(drawn) == pytest.approx(2.0, rel=0.1)
    assert least <= min(drawn) <= max(drawn) <= most
    assert drawn == [again.next() for _ in range(4000)]
    assert kind == "constant" or drawn != [Delays(2.0, kind, 3, "link", 1, 2).next() for _ in range(4000)]


def test_a_straggler_is_one_in_ten_and_ten_times_as_late():
    delays = Delays(2.0, "straggler", 3, "stage", 1)
    drawn = [delays.next() for _ in range(4000)]
    assert set(drawn) == {0.0, 20.0} and drawn.count(20.0) == pytest.approx(400, rel=0.2)


def test_a_list_has_the_delay_of_each_link_and_the_longest_counts(tmp_path, monkeypatch):
    slept = []
    monkeypatch.setattr(module.time, "sleep", slept.append)
    monkeypatch.setattr(module.time, "time", lambda: 0.0)
    stages = ends(tmp_path, delay_s=[1.0, 3.0])
    for src, dst in ((0, 1), (1, 2), (2, 0)):
        stages[src].send(message(torch.zeros(1)), dst, 1.0)
        stages[dst].recv(src, 1.0)
    assert slept == [1.0, 3.0, 3.0]


def test_stages_are_late_as_their_list_says():
    chaos = ChaosConfig(stage_delay_s=[0.0, 0.5])
    assert delays_of_stage(chaos, 0, 0) is None
    assert delays_of_stage(chaos, 0, 1).next() == 0.5
    assert delays_of_stage(ChaosConfig(stage_delay_s=0.25), 0, 1).next() == 0.25


@pytest.mark.parametrize(
    ("key", "times", "told"),
    [("compute_s", [0.1], "lists 1 times and the run has 3 stages"),
     ("stage_delay_s", [0.1] * 4, "lists 4 times and the run has 3 stages"),
     ("delay_s", [0.1] * 3, "lists 3 times and the run has 2 links")],
)  # fmt: skip
def test_a_list_of_another_length_is_refused(key, times, told):
    with pytest.raises(ConfigError, match=f"chaos.{key} {told}"):
        check_chaos(ChaosConfig(**{key: times}), 3)


def test_a_list_of_links_is_refused_where_replicas_have_several():
    check_chaos(ChaosConfig(delay_s=0.1), 3, 4)
    check_chaos(ChaosConfig(delay_s=[0.1, 0.2]), 3, 3)
    with pytest.raises(ConfigError, match=r"replicas have several \(given: \[0\.1, 0\.2\], .* leave run\.replicas out"):
        check_chaos(ChaosConfig(delay_s=[0.1, 0.2]), 3, 4)


@pytest.mark.parametrize(
    "value", [{"delay_s": -1.0}, {"compute": "fast"}, {"compute_s": "guessed"}, {"delay": "often"}]
)
def test_what_it_cannot_mean_is_refused(value):
    with pytest.raises(ConfigError, match=f"chaos.{next(iter(value))}"):
        Config.from_dict({"chaos": value})
