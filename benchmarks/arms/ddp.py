"""DistributedDataParallel: every process trains the whole network on its part of the batch.

As its manual advises: gradients live in the buckets, and the graph is declared to stay as it is. Buckets of 4 MiB
let a network of a few layers send some gradients while it still computes others. Running statistics of BatchNorm are
each rank's own: sending them every step would only cost time. (Newer torch has a second name for that option and says
so; older torch knows this one only.)
"""

from typing import Any

import torch
from torch.nn.parallel import DistributedDataParallel

from benchmarks.arms.job import ArmJob
from benchmarks.arms.ranks import Rank, run_ranks
from benchmarks.arms.stopwatch import timed
from benchmarks.arms.work import ArmBatches, Synchronise, UsersOptimizer, blocks_of, resolved_work
from pipeline.records.time_budget import peak_device_bytes

__all__ = ["main"]

BUCKET_MIB = 4


def main(job: ArmJob) -> dict[str, Any]:
    """Times it over ``job.processes`` processes; together they take the batch of every other arm."""
    return run_ranks(_train, job)


def _train(job: ArmJob, rank: Rank) -> dict[str, Any]:
    resolved, device = resolved_work(job), rank.device
    blocks = blocks_of(resolved, range(resolved.num_blocks), device)
    net = DistributedDataParallel(
        blocks, gradient_as_bucket_view=True, static_graph=True,
        bucket_cap_mb=BUCKET_MIB, broadcast_buffers=False,
        device_ids=[device.index] if device.type == "cuda" else None,
    )  # fmt: skip
    optimizer = UsersOptimizer(resolved, blocks)
    feed = ArmBatches(resolved, device, rank.index, rank.size)

    def step() -> None:
        chosen = feed.advance()
        loss = resolved.data.task.loss(net(feed.inputs(chosen)), feed.labels(chosen))
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()

    found = timed(
        step, amount=feed.batch_size, seconds=job.seconds, agree=rank.agree, synchronise=Synchronise(device)
    )
    return {**found, "peak_device_bytes": peak_device_bytes(device)}
