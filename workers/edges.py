"""Edges of a run's pipeline, from what its rule declares."""

import math
from collections.abc import Sequence
from dataclasses import replace

from pipeline.engine.message import FEEDBACK_EXTRA_BYTES
from pipeline.engine.publishing import MOST_UNDER_WAY
from pipeline.engine.wires import wires_of
from pipeline.learning.rule import Topology
from pipeline.mixture.routes import Routes
from pipeline.network.shapes import BlockShapes
from pipeline.numerics.wire_format import sample_bytes
from pipeline.resolve import RunSpec
from pipeline.schedules.probe import Probe
from pipeline.schedules.replicas import Replicas
from workers.chaos import STAMP_BYTES
from workers.replica_edges import between_processes, exchange_edges
from workers.transport import Edge

__all__ = ["batch_bytes", "edges_of"]


def edges_of(
    resolved: RunSpec, partition: tuple[range, ...], depth: int, replicas: Replicas | None = None,
    probe: Probe | None = None,
) -> tuple[Edge, ...]:  # fmt: skip
    """All edges of the pipeline.

    Activations go up from stage to stage. Feedback goes down from stage to stage (NEIGHBOUR) or from the last stage
    straight to every other (BROADCAST); so does what the last block publishes. A feedback queue takes everything that
    can be in flight, so that sending feedback never blocks: two stages that each wait for room in the other's queue
    would wait for ever.

    Args:
        resolved: the run.
        partition: blocks of each stage.
        depth: messages of activations that may wait between two stages.
        replicas: processes of each stage, between which the edges are; None for one each.
        probe: that passes beside the run's own.

    Returns:
        Edges with their depth in messages and the payload of their largest message in bytes; none for one stage.
    """
    num_stages = len(partition)
    batching = resolved.batching
    rows = max(resolved.microbatch_size, batching.eval_batch_size * batching.eval_passes)
    for passing in (probe, resolved.probe):
        rows = max(rows, passing.num_samples) if passing is not None else rows
    edges = []
    for src in range(num_stages - 1):
        edges.append(Edge(src, src + 1, depth, rows * batch_bytes(resolved, partition[src].stop)))
    waiting = [batching.in_flight_at(dst, num_stages) * batching.microbatches + 1 for dst in range(num_stages - 1)]
    if resolved.routes is not None:
        edges += _feedback_edges(resolved, resolved.routes, partition, waiting)
    elif resolved.topology is Topology.NEIGHBOUR or resolved.topology is Topology.SETTLE:
        for dst in range(num_stages - 1):
            one = _sample_bytes(resolved.shapes[partition[dst].stop - 1])
            num_bytes = resolved.most_feedback * one + FEEDBACK_EXTRA_BYTES
            edges.append(Edge(dst + 1, dst, waiting[dst], resolved.microbatch_size * num_bytes))
    elif resolved.topology is Topology.BROADCAST:
        num_bytes = resolved.microbatch_size * _sample_bytes(resolved.shapes[-1])
        edges += [Edge(num_stages - 1, dst, waiting[dst], num_bytes) for dst in range(num_stages - 1)]
    if (publication := resolved.publication) is not None:
        edges += [Edge(num_stages - 1, k, MOST_UNDER_WAY, publication.num_bytes) for k in range(num_stages - 1)]
    if replicas is not None and not replicas.is_single:
        edges = between_processes(edges, replicas, batching.microbatches)
        edges += exchange_edges(resolved, partition, replicas)
    if resolved.config.chaos.delays_messages:
        edges = [replace(edge, slot_bytes=edge.slot_bytes + STAMP_BYTES) for edge in edges]
    return tuple(edges)


def _feedback_edges(
    resolved: RunSpec, routes: Routes, partition: tuple[range, ...], waiting: Sequence[int]
) -> list[Edge]:
    """Those down to stages that await something, from where it comes; both kinds share an edge where they can.

    Args:
        resolved: the run.
        routes: where feedback comes from.
        partition: blocks of each stage.
        waiting: messages that may wait for each stage but the last.
    """
    last, edges = len(partition) - 1, []
    for dst, blocks in enumerate(partition[:-1]):
        found: dict[int, list[int]] = {}
        if routes.awaits_above(blocks.stop - 1):
            found.setdefault(dst + 1, []).append(_sample_bytes(resolved.shapes[blocks.stop - 1]))
        if any(map(routes.awaits_broadcast, blocks)):
            found.setdefault(last, []).append(_sample_bytes(resolved.shapes[-1]))
        edges += [
            Edge(src, dst, waiting[dst] * len(sizes), resolved.microbatch_size * (max(sizes) + FEEDBACK_EXTRA_BYTES))
            for src, sizes in found.items()
        ]
    return edges


def batch_bytes(resolved: RunSpec, block: int) -> int:
    """Bytes of one sample and its labels on the way to ``block``."""
    shapes, wires, task = resolved.shapes[block - 1], wires_of(resolved), resolved.data.task
    num_labels = math.prod(task.label_shape)
    if wires is None or block not in wires.cuts:
        return _sample_bytes(shapes) + num_labels * task.label_dtype.itemsize
    activation = sample_bytes(shapes.out_shape, shapes.dtype, wires.wire, wires.positions)
    return activation + num_labels * wires.labels.itemsize


def _sample_bytes(shapes: BlockShapes) -> int:
    """Bytes of one sample of a block's output."""
    return math.prod(shapes.out_shape) * shapes.dtype.itemsize
