"""Peak GEMM throughput of this machine for the network's shapes, outside any training.

As many processes of one thread as a pipeline of two stages has, each with the two products that a local rule asks of
a layer: the output, and the gradient of the weight. No bias, no activation, no optimizer, results in memory that is
there already: what is left is the library's own rate for these shapes.
"""

from typing import Any

import torch

from benchmarks.arms.job import ArmJob
from benchmarks.arms.ranks import Rank, run_ranks
from benchmarks.arms.stopwatch import timed
from benchmarks.arms.work import Synchronise, resolved_work
from benchmarks.presets import main_product

__all__ = ["main"]


def main(job: ArmJob) -> dict[str, Any]:
    """Operations per second of all processes together, under ``flop_per_s``."""
    return run_ranks(_multiply, job)


def _multiply(job: ArmJob, rank: Rank) -> dict[str, Any]:
    shape = main_product(resolved_work(job), job.preset.batch_size)
    generator = torch.Generator().manual_seed(rank.index)

    def draw(*size: int) -> torch.Tensor:
        return torch.randn(*size, generator=generator).to(rank.device)

    x, weight = draw(shape.rows, shape.inner), draw(shape.columns, shape.inner)
    error, out, gradient = draw(shape.rows, shape.columns), draw(shape.rows, shape.columns), torch.empty_like(weight)

    def step() -> None:
        torch.mm(x, weight.t(), out=out)
        torch.mm(error.t(), x, out=gradient)

    rank.agree(0)  # all start together
    found = timed(
        step, amount=2 * shape.flop, seconds=job.seconds, agree=rank.agree, synchronise=Synchronise(rank.device)
    )
    return {
        "flop_per_s": rank.total(found["samples_per_s"]), "windows": found["windows"],
        "product": [shape.rows, shape.inner, shape.columns],
    }  # fmt: skip
