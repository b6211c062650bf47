"""Data parallelism under emulated compute: processes that wait for their part of the batch and exchange real gradients.

As DistributedDataParallel does it, in buckets while the backward pass goes on: a third of the time is forward, then
each bucket's all-reduce begins when its share of the rest has passed. Over gloo, between processes of this host.
"""

import multiprocessing
import tempfile
import time
from multiprocessing.connection import Connection

import torch
import torch.distributed as dist

from pipeline.engine.emulated import FORWARD_SHARE, Waiter

__all__ = ["emulated_ddp"]

_BUCKET_BYTES = 4 * 2**20
_WARM_STEPS = 3


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
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    steps = _WARM_STEPS + max(5, round(seconds / compute_s))
    with tempfile.TemporaryDirectory() as folder:
        ranks = [
            context.Process(
                target=_rank, daemon=True,
                args=(rank, processes, folder, compute_s, gradient_bytes, steps, sender if rank == 0 else None),
            )
            for rank in range(processes)
        ]  # fmt: skip
        for rank in ranks:
            rank.start()
        sender.close()
        try:
            if not receiver.poll(120.0 + 20 * seconds):
                raise RuntimeError(f"{processes} processes did not end in time. Lower --ddp-most.")
            return float(receiver.recv())
        except EOFError:
            raise RuntimeError(f"one of {processes} processes failed. Lower --ddp-most.") from None
        finally:
            for rank in ranks:
                rank.join(10.0)
                rank.kill()


def _rank(
    rank: int, size: int, folder: str, compute_s: float, num_bytes: int, steps: int, result: Connection | None
) -> None:
    """One process."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=size)
    count = max(1, -(-num_bytes // _BUCKET_BYTES))
    buckets = [torch.zeros(max(1, num_bytes // 4 // count)) for _ in range(count)]
    waiter, moments = Waiter(), []
    for _ in range(steps):
        waiter.wait(compute_s * FORWARD_SHARE)
        works = []
        for bucket in buckets:
            waiter.wait(compute_s * (1 - FORWARD_SHARE) / count)
            works.append(dist.all_reduce(bucket, async_op=True))
        for work in works:
            if work is not None:
                work.wait()
        moments.append(time.perf_counter())
    if result is not None:
        result.send((moments[-1] - moments[_WARM_STEPS - 1]) / (steps - _WARM_STEPS))
    dist.barrier()
    dist.destroy_process_group()
