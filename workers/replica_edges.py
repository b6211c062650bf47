"""Edges between processes where stages have replicas, and those on which replicas exchange gradients."""

from collections.abc import Sequence
from dataclasses import replace

from pipeline.engine.exchange import bucketed
from pipeline.engine.share import longest_message
from pipeline.learning.rule import Topology
from pipeline.resolve import RunSpec
from pipeline.schedules.replicas import Replicas
from workers.transport import Edge

__all__ = ["between_processes", "exchange_edges"]

_AHEAD = 8
"""Messages about single buckets that a replica may have sent and the other not yet read. It sends the gradients of
bucket k + 1, waits for the other's of bucket k, and then sends the sums of bucket k: when it has sent those of bucket
k + 1, the other has read its gradients of bucket k - 3 at least, and at most 4 gradients and 4 sums are unread."""
_STATISTICS = 4
"""As ``_AHEAD``, where running statistics are handed on, too."""


def between_processes(edges: Sequence[Edge], replicas: Replicas, microbatches: int) -> list[Edge]:
    """Edges between stages as edges between the processes that hand the same micro-batches to each other."""
    if replicas.is_single:
        return list(edges)
    ends = {
        (replicas.process(e.src, m), replicas.process(e.dst, m)): e for e in edges for m in range(microbatches)
    }  # fmt: skip
    return [replace(edge, src=src, dst=dst) for (src, dst), edge in ends.items()]


def exchange_edges(resolved: RunSpec, partition: Sequence[range], replicas: Replicas) -> list[Edge]:
    """Edges between the replicas of each stage, with room for all that can be under way: sending never blocks, so two
    that send to each other cannot lock up. A message takes one slot, whose size is that of the longest one."""
    edges = []
    for stage, blocks in enumerate(partition):
        group = replicas.group(stage)
        if len(group) == 1:
            continue
        rounds = resolved.batching.microbatches // len(group)
        learners = tuple(k for k in blocks if k not in resolved.frozen)
        buckets, depth = [learners], 3 * rounds + 4
        if resolved.topology is Topology.LOCAL and resolved.config.run.learn_after == "block":
            buckets = bucketed([(k,) for k in learners], {k: resolved.exchanged[k].gradient_bytes for k in learners})
            normalises = any(resolved.exchanged[k].statistics for k in learners)
            depth = (rounds - 1) * len(buckets) + _AHEAD + _STATISTICS * normalises
        together = ([resolved.exchanged[k] for k in bucket] for bucket in buckets)
        slot_bytes = max((longest_message(some, len(group)) for some in together), default=0)
        edges += [Edge(src, dst, depth, slot_bytes) for src in group for dst in group if src != dst]
    return edges
