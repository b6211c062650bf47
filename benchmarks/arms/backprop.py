"""Backpropagation in one process with all cores: what most users have."""

from typing import Any

import torch

from benchmarks.arms.job import ArmJob
from benchmarks.arms.stopwatch import timed
from benchmarks.arms.work import ArmBatches, Synchronise, UsersOptimizer, blocks_of, resolved_work
from pipeline.records.time_budget import peak_device_bytes

__all__ = ["main"]


def main(job: ArmJob) -> dict[str, Any]:
    """Times the plain loop."""
    resolved, device = resolved_work(job), torch.device(job.preset.device)
    net = blocks_of(resolved, range(resolved.num_blocks), device)
    optimizer = UsersOptimizer(resolved, net)
    feed = ArmBatches(resolved, device)

    def step() -> None:
        chosen = feed.advance()
        loss = resolved.data.task.loss(net(feed.inputs(chosen)), feed.labels(chosen))
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()

    found = timed(step, amount=feed.batch_size, seconds=job.seconds, synchronise=Synchronise(device))
    return {**found, "peak_device_bytes": peak_device_bytes(device)}
