"""torch.distributed.pipelining with GPipe or 1F1B: the pipeline that comes with torch."""

from typing import Any

from torch.distributed.pipelining import PipelineStage, Schedule1F1B, ScheduleGPipe

from benchmarks.arms.job import ArmJob
from benchmarks.arms.ranks import Rank, run_ranks
from benchmarks.arms.stopwatch import timed
from benchmarks.arms.work import ArmBatches, Synchronise, UsersOptimizer, blocks_of, resolved_work
from pipeline.planning.partition import parse
from pipeline.records.time_budget import peak_device_bytes

__all__ = ["main"]

_SCHEDULES = {"gpipe": ScheduleGPipe, "1f1b": Schedule1F1B}


def main(job: ArmJob) -> dict[str, Any]:
    """Times ``job.mode`` with one stage in each process."""
    return run_ranks(_train, job)


def _train(job: ArmJob, rank: Rank) -> dict[str, Any]:
    resolved, device = resolved_work(job), rank.device
    net = blocks_of(resolved, parse(job.partition, resolved.num_blocks)[rank.index], device)
    stage = PipelineStage(net, rank.index, rank.size, device)
    schedule = _SCHEDULES[job.mode](stage, job.microbatches, loss_fn=resolved.data.task.loss)
    optimizer = UsersOptimizer(resolved, net)
    feed = ArmBatches(resolved, device)

    def step() -> None:
        chosen = feed.advance()
        optimizer.zero_grad()
        if stage.is_first:
            schedule.step(feed.inputs(chosen))
        else:
            schedule.step(target=feed.labels(chosen) if stage.is_last else None)
        optimizer.step()

    found = timed(
        step, amount=feed.batch_size, seconds=job.seconds, agree=rank.agree, synchronise=Synchronise(device)
    )
    return {**found, "peak_device_bytes": peak_device_bytes(device)}
