"""Data parallelism under emulated compute: processes that wait for their part of the batch and exchange real gradients.

As DistributedDataParallel does it, in buckets while the backward pass goes on: a third of the time is forward, then
each bucket's all-reduce begins when its share of the rest has passed. Over gloo, between processes of this host.
"""

from collections.abc import Callable
from functools import partial

import torch
import torch.distributed as dist

from benchmarks.emulated_ranks import step_seconds
from pipeline.engine.emulated import FORWARD_SHARE, Waiter

__all__ = ["emulated_ddp"]

_BUCKET_BYTES = 4 * 2**20


def emulated_ddp(processes: int, compute_s: float, gradient_bytes: int, seconds: float) -> float:
    """Seconds of a step.

    Args:
        processes: of the group.
        compute_s: that each takes for its part of the batch.
        gradient_bytes: of the whole network.
        seconds: about how long to measure.

    Raises:
        RuntimeError: a process failed.
    """
    return step_seconds(processes, partial(_step, compute_s, gradient_bytes), compute_s, seconds)


def _step(compute_s: float, num_bytes: int, rank: int, size: int) -> Callable[[], None]:
    """A step of one process; all do the same."""
    count = max(1, -(-num_bytes // _BUCKET_BYTES))
    buckets = [torch.zeros(max(1, num_bytes // 4 // count)) for _ in range(count)]
    waiter = Waiter()

    def step() -> None:
        waiter.wait(compute_s * FORWARD_SHARE)
        works = []
        for bucket in buckets:
            waiter.wait(compute_s * (1 - FORWARD_SHARE) / count)
            works.append(dist.all_reduce(bucket, async_op=True))
        for work in works:
            if work is not None:
                work.wait()

    return step
