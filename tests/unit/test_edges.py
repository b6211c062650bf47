from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from pipeline.config import Config
from pipeline.data.position_tasks import PositionClasses, Regression
from pipeline.data.task import Classification
from pipeline.engine.publishing import MOST_UNDER_WAY
from pipeline.learning.rule import Topology
from pipeline.network.shapes import BlockShapes
from pipeline.mixture.routes import Routes
from pipeline.schedules.batching import Batching, Publication
from workers.edges import edges_of
from workers.transport import Edge

# Bytes of a sample of each block's output: 40, 20 (bfloat16), 96, 12.
OUTPUTS = [((10,), torch.float32), ((10,), torch.bfloat16), ((2, 3, 4), torch.float32), ((3,), torch.float32)]
LABEL = 8
PER_SAMPLE = 8


def resolved(
    topology, in_flight=1, microbatches=1, eval_batch_size=16, transport=None, task=Classification(3), routes=None
):
    shapes = tuple(BlockShapes((1,), (1,), shape, dtype, 0) for shape, dtype in OUTPUTS)
    batching = Batching(100, 50, 16, eval_batch_size, microbatches, in_flight)
    return SimpleNamespace(
        topology=topology, shapes=shapes, batching=batching, microbatch_size=16 // microbatches, num_blocks=4,
        routes=routes, config=Config.from_dict({"transport": transport or {}}), data=SimpleNamespace(task=task),
        most_feedback=1, publication=None, probe=None, batch_norms=frozenset(),
    )  # fmt: skip


THREE = (range(0, 1), range(1, 3), range(3, 4))
UP = [Edge(0, 1, 4, 16 * (40 + LABEL)), Edge(1, 2, 4, 16 * (96 + LABEL))]


@pytest.mark.parametrize(
    ("topology", "down"),
    [
        (Topology.LOCAL, []),
        (Topology.NEIGHBOUR, [Edge(1, 0, 2, 16 * (40 + PER_SAMPLE)), Edge(2, 1, 2, 16 * (96 + PER_SAMPLE))]),
        (Topology.SETTLE, [Edge(1, 0, 2, 16 * (40 + PER_SAMPLE)), Edge(2, 1, 2, 16 * (96 + PER_SAMPLE))]),
        (Topology.BROADCAST, [Edge(2, 0, 2, 16 * 12), Edge(2, 1, 2, 16 * 12)]),
    ],
)
def test_edges_by_what_the_rule_declares(topology, down):
    assert edges_of(resolved(topology), THREE, depth=4) == (*UP, *down)


def test_feedback_of_several_tensors_has_room_for_them_and_one_number_for_each_sample():
    run = resolved(Topology.NEIGHBOUR)
    run.most_feedback = 3
    found = [edge.slot_bytes for edge in edges_of(run, THREE, depth=4) if edge.src > edge.dst]
    assert found == [16 * (3 * 40 + PER_SAMPLE), 16 * (3 * 96 + PER_SAMPLE)]


def test_what_is_published_has_an_edge_from_the_last_stage_to_every_other():
    run = resolved(Topology.LOCAL)
    run.publication = Publication(50, 777)
    published = [Edge(2, 0, MOST_UNDER_WAY, 777), Edge(2, 1, MOST_UNDER_WAY, 777)]
    assert edges_of(run, THREE, depth=4) == (*UP, *published)


@pytest.mark.parametrize(
    ("task", "label"),
    [(PositionClasses(256, (7,)), 7), (PositionClasses(257, (7,)), 14), (Regression(2, (7,)), 7 * 2 * 4)],
)
@pytest.mark.parametrize("wire", ["same", "int8"])
def test_labels_at_positions_travel_in_the_narrowest_type(task, label, wire):
    up = edges_of(resolved(Topology.LOCAL, transport={"wire": wire}, task=task), THREE, depth=4)
    activations = (40, 96) if wire == "same" else (10 + 4, 24 + 4)
    assert [edge.slot_bytes for edge in up] == [16 * (size + label) for size in activations]


def test_a_mixture_has_the_edges_that_its_blocks_await_and_two_kinds_share_one():
    kinds = {"L": Topology.LOCAL, "N": Topology.NEIGHBOUR, "B": Topology.BROADCAST}

    def down(letters):
        routes = Routes(tuple(kinds[letter] for letter in letters))
        return [edge for edge in edges_of(resolved(routes.topology, routes=routes), THREE, 4) if edge.src > edge.dst]

    assert down("LNLL") == [] and down("NLLL") == [Edge(1, 0, 2, 16 * (40 + PER_SAMPLE))]
    assert down("BLLB") == [Edge(2, 0, 2, 16 * (12 + PER_SAMPLE))]
    assert down("LBNB") == [Edge(2, 1, 4, 16 * (96 + PER_SAMPLE))]
    assert down("NBLB") == [Edge(1, 0, 2, 16 * (40 + PER_SAMPLE)), Edge(2, 1, 2, 16 * (12 + PER_SAMPLE))]


@pytest.mark.parametrize("topology", list(Topology))
def test_one_stage_needs_no_edge(topology):
    assert edges_of(resolved(topology), (range(0, 4),), depth=4) == ()


@pytest.mark.parametrize(("in_flight", "microbatches", "depth"), [(1, 1, 2), (3, 1, 4), (1, 4, 5), (2, 2, 5)])
@pytest.mark.parametrize("topology", [Topology.NEIGHBOUR, Topology.BROADCAST])
def test_a_feedback_queue_takes_all_that_can_be_in_flight(topology, in_flight, microbatches, depth):
    edges = edges_of(resolved(topology, in_flight, microbatches), THREE, depth=1)
    assert [e.depth for e in edges if e.src < e.dst] == [1, 1]
    assert [e.depth for e in edges if e.src > e.dst] == [depth, depth]


def test_under_pipedream_a_queue_takes_a_batch_for_every_stage_above():
    run = resolved(Topology.NEIGHBOUR)
    run.batching = replace(run.batching, in_flight_by_stage=True)
    assert [e.depth for e in edges_of(run, THREE, depth=1)] == [1, 1, 4, 3]


def test_no_queue_takes_more_than_an_epoch_has():
    edges = edges_of(resolved(Topology.BROADCAST, in_flight=1000), THREE, depth=1)
    assert [e.depth for e in edges if e.src > e.dst] == [8, 8]


def test_slots_take_the_larger_of_a_microbatch_and_a_test_batch():
    small, large = (
        edges_of(resolved(Topology.NEIGHBOUR, microbatches=4, eval_batch_size=size), THREE[1:], 4) for size in (1, 32)
    )
    assert [e.slot_bytes for e in small] == [4 * (96 + LABEL), 4 * (96 + PER_SAMPLE)]
    assert [e.slot_bytes for e in large] == [32 * (96 + LABEL), 4 * (96 + PER_SAMPLE)]  # none for a test batch


def test_slots_take_all_passes_of_a_test_batch():
    run = resolved(Topology.LOCAL)
    run.batching = replace(run.batching, eval_passes=10)
    assert [e.slot_bytes for e in edges_of(run, THREE[1:], 4)] == [160 * (96 + LABEL)]


@pytest.mark.parametrize(
    ("wire", "payloads"), [("bfloat16", (2 * 10, 2 * 24)), ("float16", (2 * 10, 2 * 24)), ("int8", (10 + 4, 24 + 4))]
)
def test_an_edge_has_room_for_a_batch_in_its_wire_format_and_narrow_labels(wire, payloads):
    first, second = (16 * (payload + 1) for payload in payloads)
    assert edges_of(resolved(Topology.LOCAL, transport={"wire": wire}), THREE, depth=4) == (
        Edge(0, 1, 4, first), Edge(1, 2, 4, second)
    )  # fmt: skip
    at_one = resolved(Topology.LOCAL, transport={"wire": wire, "wire_at": [1]})
    assert edges_of(at_one, THREE, depth=4) == (Edge(0, 1, 4, first), UP[1]), "the other edge sends what it has"
