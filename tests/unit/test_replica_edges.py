"""Edges between processes: those that hand micro-batches to each other, and the replicas of a stage."""

import pytest
import torch
from tests.distributed.test_replica_runs import RULES, SEVERAL
from tests.support.products import rare
from tests.support.runs import run
from tests.unit.test_edges import THREE, UP, resolved

from pipeline.config import Config
from pipeline.engine.message import Kind
from pipeline.learning.exchanged import Exchanged, GradientShape
from pipeline.learning.rule import Topology
from pipeline.numerics.packed import packed_bytes, padded
from pipeline.schedules.replicas import Replicas
from workers.chaos import STAMP_BYTES
from workers.edges import edges_of
from workers.transport import Edge
from workers.transports._slots.ring import slot_stride
from workers.transports.inline import InlineTransport

FLOAT = torch.float32
BOTH = 2_000_000 + 64 + 5 * 64 + 2 * 64
"""Bytes of a message about blocks 1 and 2 to one of two: gradients, two losses, answers and two credits, and for each
block a byte for each of its two parameters; all of them padded."""


def spec(topology, microbatches, learn_after="block", more=None):
    found = resolved(topology, microbatches=microbatches)
    found.exchanged = tuple(Exchanged((GradientShape(FLOAT, n, 2),)) for n in (10, 1_000_000, 25, 2))
    found.frozen = frozenset()
    found.config = Config.from_dict({"run": {"learn_after": learn_after}, **(more or {})})
    return found


def ends(edges):
    return sorted((e.src, e.dst) for e in edges)


@pytest.mark.parametrize(
    ("counts", "microbatches", "expected"),
    [
        ((1, 2, 1), 2, [(0, 1), (0, 2), (1, 3), (2, 3)]), ((2, 2, 2), 2, [(0, 2), (1, 3), (2, 4), (3, 5)]),
        ((2, 3, 1), 6, [(0, 2), (0, 3), (0, 4), (1, 2), (1, 3), (1, 4), (2, 5), (3, 5), (4, 5)]),
        ((4, 2, 1), 4, [(0, 4), (1, 5), (2, 4), (3, 5), (4, 6), (5, 6)]),
    ],
)  # fmt: skip
def test_who_hands_activations_to_whom(counts, microbatches, expected):
    replicas = Replicas(counts)
    edges = edges_of(spec(Topology.LOCAL, microbatches), THREE, 4, replicas)
    of_stage = [replicas.place(p)[0] for p in range(replicas.num_processes)]
    assert ends(e for e in edges if of_stage[e.src] != of_stage[e.dst]) == expected
    inside = [(a, b) for s in range(3) for a in replicas.group(s) for b in replicas.group(s) if a != b]
    assert ends(e for e in edges if of_stage[e.src] == of_stage[e.dst]) == sorted(inside)


@pytest.mark.parametrize(
    ("topology", "expected"),
    [
        (Topology.NEIGHBOUR, [(1, 0), (2, 0), (3, 1), (3, 2)]), (Topology.SETTLE, [(1, 0), (2, 0), (3, 1), (3, 2)]),
        (Topology.BROADCAST, [(3, 0), (3, 1), (3, 2)]), (Topology.LOCAL, []),
    ],
)  # fmt: skip
def test_feedback_goes_back_to_the_replica_that_waits_for_it(topology, expected):
    edges = edges_of(spec(topology, 2), THREE, 4, Replicas((1, 2, 1)))
    assert ends(e for e in edges if e.src > e.dst and (e.src, e.dst) != (2, 1)) == expected


def test_one_process_each_has_the_edges_of_stages():
    assert edges_of(spec(Topology.LOCAL, 1), THREE, 4, Replicas((1, 1, 1))) == tuple(UP)


ONE = BOTH - 64 - 3 * 64
"""About block 1 alone, which is larger than a bucket."""


@pytest.mark.parametrize(
    ("topology", "learn_after", "microbatches", "edge"),
    [
        (Topology.LOCAL, "block", 2, Edge(1, 2, 8, ONE)), (Topology.LOCAL, "block", 6, Edge(1, 2, 2 * 2 + 8, ONE)),
        (Topology.LOCAL, "stage", 2, Edge(1, 2, 7, BOTH)), (Topology.NEIGHBOUR, "block", 6, Edge(1, 2, 13, BOTH)),
    ],
)  # fmt: skip
def test_replicas_can_send_all_that_is_under_way(topology, learn_after, microbatches, edge):
    edges = edges_of(spec(topology, microbatches, learn_after), THREE, 4, Replicas((1, 2, 1)))
    assert edge in edges


def test_blocks_that_learn_nothing_send_nothing():
    found = spec(Topology.LOCAL, 2)
    found.frozen = frozenset({1})
    assert Edge(1, 2, 8, 64 + 3 * 64 + 64) in edges_of(found, THREE, 4, Replicas((1, 2, 1)))
    found.frozen = frozenset({1, 2})
    assert Edge(1, 2, 8, 0) in edges_of(found, THREE, 4, Replicas((1, 2, 1)))


def test_there_is_room_for_running_statistics():
    found = spec(Topology.LOCAL, 2)
    found.exchanged = (Exchanged(),) + (Exchanged(found.exchanged[0].gradients, ((FLOAT, 100),) * 2),) * 3
    assert Edge(1, 2, 12, 4 * padded(400)) in edges_of(found, THREE, 4, Replicas((1, 2, 1)))


def test_a_late_message_between_replicas_takes_one_slot_too():
    edges = edges_of(spec(Topology.NEIGHBOUR, 6, more={"chaos": {"delay_s": 0.01}}), THREE, 4, Replicas((1, 2, 1)))
    assert Edge(1, 2, 13, BOTH + STAMP_BYTES) in edges


NOISE = {"name": "noise", "shape": [1, 2, 2], "num_train": 56, "num_test": 10, "num_classes": 2}


@pytest.fixture
def exchanges(monkeypatch):
    """Counts the slots of shared memory that messages between replicas would take; kinds of messages that were sent."""
    sent, kinds = InlineTransport.send, set()
    between = (Kind.GRADIENT, Kind.SUM, Kind.STATISTICS)

    def slots(edge, message):
        return max(1, -(-packed_bytes(message.tensors) // slot_stride(edge.slot_bytes)))

    def send(self, message, dst, timeout):
        edge = self._outgoing[dst]
        if message.kind in between:
            kinds.add(message.kind)
            assert slots(edge, message) == 1, f"{message.kind.name} takes {slots(edge, message)} slots of {edge}"
            assert sum(slots(edge, m) for m in (*self._queue(edge), message)) <= edge.depth
        return sent(self, message, dst, timeout)

    def can_send(self, dst):
        edge = self._outgoing[dst]
        is_full = len(self._queue(edge)) >= edge.depth
        assert not (is_full and any(m.kind in between for m in self._queue(edge))), f"{edge} is full"
        return not is_full

    monkeypatch.setattr(InlineTransport, "send", send)
    monkeypatch.setattr(InlineTransport, "can_send", can_send)
    return kinds


def tiny(rule, replicas, microbatches, **more):
    """Two steps of narrow blocks, of which a message is mostly what travels along with the gradients."""
    return {
        "rule": {"name": rule}, "dataset": NOISE, "schedule": {"mode": "gpipe" if rule == "backprop" else "parallel"},
        "train": {"epochs": 1, "batch_size": 30, "microbatches": microbatches}, "run": {"replicas": replicas},
        "model": {"name": "mlp", "depth": 11, "width": 3, **SEVERAL.get(rule, {})}, **more,
    }  # fmt: skip


USUAL = ["pred", "backprop", "dni", "interlock", "pc", "dtp", "eqprop"]


@pytest.mark.parametrize("rule", rare([*RULES, *sorted(SEVERAL)], but=USUAL))
def test_what_replicas_send_takes_no_more_slots_than_there_are(tmp_path, exchanges, rule):
    """The sending replica goes on as long as it can, before the other one reads anything."""
    run(tmp_path / "run", tiny(rule, 2, 12))
    assert {Kind.GRADIENT, Kind.SUM} <= exchanges


@pytest.mark.parametrize(("rule", "autocast"), [("pred", "none"), ("dfa", "bfloat16")])
def test_statistics_and_late_messages_take_one_slot_each(tmp_path, exchanges, rule, autocast):
    """With a replica for each micro-batch, statistics are longer than gradients."""
    table = tiny(rule, 5, 5, chaos={"delay_s": 1e-6})
    run(tmp_path / "run", {**table, "run": {**table["run"], "autocast": autocast}})
    assert exchanges == {Kind.GRADIENT, Kind.SUM, Kind.STATISTICS}
