"""Edges between processes: those that hand micro-batches to each other, and the replicas of a stage."""

import pytest
from tests.unit.test_edges import THREE, UP, resolved

from pipeline.config import Config
from pipeline.engine.exchange import BUCKET_BYTES
from pipeline.learning.rule import Topology
from pipeline.schedules.replicas import Replicas
from workers.edges import edges_of
from workers.transport import Edge


def spec(topology, microbatches, learn_after="block"):
    found = resolved(topology, microbatches=microbatches)
    found.gradient_bytes = (40, 4_000_000, 100, 8)
    found.config = Config.from_dict({"run": {"learn_after": learn_after}})
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


@pytest.mark.parametrize(
    ("topology", "learn_after", "microbatches", "edge"),
    [
        (Topology.LOCAL, "block", 2, Edge(1, 2, 8, 2_000_064 + 64 + 50)),
        (Topology.LOCAL, "block", 6, Edge(1, 2, 2 * 2 + 8, 2_000_064 + 64 + 50)),
        (Topology.LOCAL, "stage", 2, Edge(1, 2, 7, 2_000_064 + 64 + 50)),
        (Topology.NEIGHBOUR, "block", 6, Edge(1, 2, 13, 2_000_064 + 64 + 50)),
    ],
)
def test_replicas_can_send_all_that_is_under_way(topology, learn_after, microbatches, edge):
    edges = edges_of(spec(topology, microbatches, learn_after), THREE, 4, Replicas((1, 2, 1)))
    assert edge in edges and 2_000_064 + 64 + 50 < 2_000_064 + BUCKET_BYTES // 2


def test_there_is_room_for_running_statistics():
    found = spec(Topology.LOCAL, 2)
    found.batch_norms = frozenset({1})
    assert Edge(1, 2, 12, 2_000_064 + 64 + 50) in edges_of(found, THREE, 4, Replicas((1, 2, 1)))
