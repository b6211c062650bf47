"""What a plan says of links between stages and between hosts."""

import dataclasses
from pathlib import Path

import pytest
from tests.support.told_plans import EVEN, FREE, MS, Told, config, model_of

from pipeline.errors import ConfigError
from workers.placement import Host
from workers.planner.cases import Planned, hosts_of
from workers.planner.command import placed
from workers.planner.links import Link, Question
from workers.planner.model import Model, Setting
from workers.planner.replicas import cases_with_replicas
from workers.planner.rows import row_of
from workers.planner.text import plan_lines
from workers.planner.ways import find_way
from workers.planner.wire_costs import WireCosts


def test_a_link_that_is_too_slow_is_named_with_the_least_that_would_do():
    # 64 samples of 64 floats and a label are 16 896 bytes, and 66 of headers to each 1 448: 47 Mbit/s for 3 ms.
    bits = 16_896 * 8 * 1514 / 1448
    row = row_of(model_of(Question((4,), link=Link(10e6)), **EVEN))
    assert row["links"][0] == {"from": 0, "to": 1, "up_bytes": 16_896, "down_bytes": 0, "busy": pytest.approx(1.0)}
    assert row["step_s"] == pytest.approx(bits / 10e6, rel=0.01)
    assert row["bottleneck"] == "link 0-1" and row["least_link_bit_per_s"] == pytest.approx(bits / 3e-3 / 1.02)


@pytest.mark.parametrize(("latency", "depth"), [(0.0, 1), (6 * MS, 3), (7 * MS, 4), (60 * MS, 21)])
def test_latency_needs_a_queue(latency, depth):
    row = row_of(model_of(Question((4,), link=Link(latency_s=latency)), **EVEN))
    assert row["least_depth"] == pytest.approx(depth, abs=1 if latency == 0 else 0)
    assert placed(config(**EVEN), row)["transport"]["depth"] == max(4, depth)


def test_a_link_between_hosts_is_where_the_hosts_meet():
    row = row_of(model_of(Question((4,), hosts=2, link=Link(10e6)), **EVEN))
    assert [link["busy"] > 0 for link in row["links"]] == [False, True, False] and row["bottleneck"] == "link 1-2"


def test_messages_between_hosts_cost_what_they_do_there():
    """The stage that sends to another host and the one that receives from it work longer, and no other."""
    far = WireCosts(MS, 0.0, 2 * MS, 0.0)
    for hosts, extra in ((1, 0.0), (2, 2 * MS)):
        question = Question((4,), hosts=hosts)
        case = Planned(config(**EVEN), Host(64, 0), Path("/nowhere"), question).case(find_way("onward"), 4)
        model = Model(case, Told(), Setting(question, 64, FREE, 4, far))
        assert model.step_s() == pytest.approx(3 * MS + extra)
        near, between = (model.exchange_s(2, 0, between_hosts=far) for far in (False, True))
        assert (near, between) == (0.0, pytest.approx(2 * 3 * MS))


@pytest.mark.parametrize(("microbatches", "replicas", "depth"), [(1, (1, 1), 3), (8, (1, 1), 17), (8, (2, 2), 17)])
def test_a_queue_has_room_for_micro_batches_and_one_for_each_pair_of_replicas(microbatches, replicas, depth):
    """Of two steps on their way, and one message beside them; the depth that is named keeps its promise."""
    question = Question((2,), link=Link(latency_s=12 * MS))
    sections = {"run": {"threads": 1, "partition": [2, 2]}, "train": {"batch_size": 64, "microbatches": microbatches}}
    case = Planned(config(**sections), Host(64, 0), Path("/nowhere"), question).case(find_way("onward"), 2, replicas)
    model = Model(case, Told(), Setting(question, 64, FREE, 4))
    step_s = 6 * MS / replicas[0]
    assert row_of(model)["least_depth"] == depth
    assert model.step_s(depth=row_of(model)["least_depth"]) == pytest.approx(step_s, rel=0.02)


def test_a_queue_that_no_depth_makes_long_enough_is_said(monkeypatch):
    monkeypatch.setattr(Model, "step_s", lambda self, *, depth, bits_per_s: 1.0 if depth == 10**6 else 2.0)
    row = row_of(model_of(Question((4,), link=Link(latency_s=MS)), **EVEN))
    assert row["least_depth"] is None and placed(config(**EVEN), row)["transport"]["depth"] == 4
    assert any(line.endswith("no transport.depth is enough") for line in plan_lines([row], row, "plan"))


def test_the_least_link_is_of_messages_between_hosts():
    """Wide blocks inside the hosts, and a narrow one between them."""
    wide = {"model": {"name": "mlp", "depth": 3, "width": [4096, 16, 4096], "norm": "none"}, **EVEN}
    row = row_of(model_of(Question((4,), hosts=2, link=Link(1e9)), **wide))
    needed = row["links"][1]["up_bytes"] / (3 * MS) / 1.02
    assert Link(row["least_link_bit_per_s"]).bytes_per_s == pytest.approx(needed)
    near = row_of(model_of(Question((2,), hosts=2), stages=2, **{"run": {"threads": 1, "partition": [2, 2]}}))
    assert near["least_link_bit_per_s"] > 0


def test_no_link_is_busier_than_all_the_time():
    """Replicas share the link between their stages, and what is told to several stages of a host the link to it."""
    question = Question((2,), link=Link(2e6))
    sections = {"run": {"threads": 1, "partition": [2, 2]}, "train": {"batch_size": 64, "microbatches": 4}}
    case = Planned(config(**sections), Host(64, 0), Path("/nowhere"), question).case(find_way("onward"), 2, (2, 2))
    found = [row_of(Model(case, Told(), Setting(question, 64, FREE, 4)))]
    dfa = {"rule": {"name": "dfa"}, "train": {"batch_size": 64, "in_flight": 4}}
    found += [row_of(model_of(Question((4,), hosts=hosts, link=Link(5e5)), **dfa, **EVEN)) for hosts in (1, 2, 4)]
    for row in found:
        assert row["bottleneck"].startswith("link") and max(link["busy"] for link in row["links"]) <= 1.001


@pytest.mark.parametrize("hosts", [1, 2])
@pytest.mark.parametrize(("delays", "step"), [([12, 0, 0], 12), ([0, 0, 12], 12), ([12, 12, 12], 12), ([0, 0, 0], 3)])
def test_each_way_is_as_late_as_it_was_told(delays, step, hosts):
    """At a depth of 1 a message every 12 ms, over whichever link, and also inside a host; the first one is as late as
    all ways on its own."""
    sections = {**EVEN, "chaos": {"delay_s": [d * MS for d in delays]}}
    case = Planned(config(**sections), Host(64, 0), Path("/nowhere"), Question((4,), hosts=hosts)).case(
        find_way("onward"), 4
    )
    model = Model(case, Told(), Setting(Question((4,), hosts=hosts), 64, FREE, 1))
    assert model.step_s() == pytest.approx(step * MS, rel=0.05)
    assert model.simulated().ends[-1][0] == pytest.approx((6 + sum(delays)) * MS, rel=0.01)


def test_feedback_goes_back_over_each_link():
    rule = {"rule": {"name": "dfa"}, "train": {"batch_size": 64, "in_flight": 4}}
    links = row_of(model_of(Question((4,)), **EVEN, **rule))["links"]
    assert [link["down_bytes"] for link in links] == [n * links[0]["down_bytes"] for n in (1, 2, 3)]
    assert all(link["down_bytes"] == 0 for link in row_of(model_of(Question((4,)), **EVEN))["links"])


@pytest.mark.parametrize(
    ("named", "near", "far"),
    [
        ("auto", "shared_memory", "process_group"), ("process_group", "process_group", "process_group"),
        ("shared_memory", "shared_memory", "process_group"), ("mixed", "shared_memory", "process_group"),
        ("inline", "shared_memory", "process_group"),
    ],
)  # fmt: skip
def test_messages_are_measured_over_the_runs_transport_where_that_reaches(named, near, far):
    planned = Planned(config(transport={"name": named}), Host(64, 0), Path("/nowhere"), Question((2,)))
    assert (planned.transport, planned.far_transport) == (near, far)


class Sent(Told):
    """Stages that send so many bytes for a full micro-batch."""

    def of(self, job):
        found = super().of(job)
        return dataclasses.replace(found, profile=dataclasses.replace(found.profile, passed_bytes=100_000))


def test_a_link_carries_what_was_seen_to_be_sent():
    model = model_of(Question((4,), link=Link(10e6)), profiles=Sent(), **EVEN)
    assert row_of(model)["links"][0]["up_bytes"] == 100_000


@pytest.mark.parametrize("microbatches", [4, 8, 48])
def test_a_batch_that_cannot_be_halved_is_no_longer_in_parts(microbatches):
    parts = {"train": {"batch_size": 50, "microbatches": microbatches}}
    row = row_of(model_of(Question((4,), link=Link(10e6)), **parts, **EVEN))
    assert row["links"][0]["up_bytes"] == pytest.approx(50 * (64 * 4 + 8), rel=0.01)


@pytest.mark.parametrize(
    ("replicas", "hosts", "found"),
    [((1, 1, 1, 1), 2, [0, 0, 1, 1]), ((2, 2), 2, [0, 1]), ((2, 1, 1), 2, [0, 1, 1]), ((1, 2, 1), 1, [0, 0, 0])],
)
def test_processes_are_dealt_to_hosts_in_order(replicas, hosts, found):
    assert hosts_of(replicas, hosts) == tuple(found)


def test_replicas_on_several_hosts_are_left_out_with_the_reason(caplog):
    with pytest.raises(ConfigError, match=r"stage 1 would be on several hosts.*--hosts 2, replicas \[1, 2, 1\]"):
        hosts_of((1, 2, 1), 2)
    sections = {"run": {"threads": 1, "partition": [4]}, "train": {"batch_size": 64, "microbatches": 2}}
    question = Question((1,), hosts=2, link=Link(1e8), replicas=(2,))
    planned = Planned(config(**sections), Host(2, 0), Path("/nowhere"), question)
    cases = [planned.case(find_way("onward"), 1)]
    assert cases_with_replicas(cases, planned, Told(), Setting(question, 2, FREE, 4)) == []
    assert "replicas are left out of the plan: the replicas of stage 0 would be on several hosts" in caplog.text
