"""torch.distributed.pipelining under emulated compute: its GPipe or 1F1B, whose stages wait in place of computing.

Schedule, messages and autograd are torch's own, over gloo between processes of this host; activations and gradients
have the true size. A stage waits a third of its time in the forward pass of its micro-batches, the rest in the backward
pass.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.pipelining import PipelineStage, Schedule1F1B, ScheduleGPipe

from benchmarks.emulated_ranks import step_seconds
from pipeline.engine.emulated import FORWARD_SHARE, Waiter

__all__ = ["Waits", "emulated_torch"]

_SCHEDULES = {"gpipe": ScheduleGPipe, "1f1b": Schedule1F1B}


def emulated_torch(
    schedule: Literal["gpipe", "1f1b"], stages: int, compute_s: float, shape: tuple[int, int], microbatches: int,
    seconds: float,
) -> float:  # fmt: skip
    """Seconds of a step.

    Args:
        schedule: of torch's.
        stages: a process each.
        compute_s: that each takes for a batch, forward and backward.
        shape: samples of a batch, width of an activation.
        microbatches: of a batch; torch's 1F1B needs as many as there are stages.
        seconds: about how long to measure.

    Raises:
        RuntimeError: a process failed.
    """
    work = _Stage(schedule, compute_s, shape, microbatches)
    return step_seconds(stages, work, compute_s * (microbatches + stages - 1) / microbatches, seconds)


@dataclass(frozen=True)
class _Stage:
    """Makes the step of a stage."""

    schedule: Literal["gpipe", "1f1b"]
    compute_s: float
    shape: tuple[int, int]
    microbatches: int

    def __call__(self, rank: int, size: int) -> Callable[[], None]:
        """A step of one of ``size`` stages."""
        net = Waits(Waiter(), self.compute_s / self.microbatches)
        stage = PipelineStage(net, rank, size, torch.device("cpu"))
        schedule = _SCHEDULES[self.schedule](stage, self.microbatches, loss_fn=F.mse_loss)
        batch = torch.zeros(self.shape)

        def step() -> None:
            if stage.is_first:
                schedule.step(batch)
            else:
                schedule.step(target=batch if stage.is_last else None)

        return step


class Waits(nn.Module):
    """The identity, which takes its time; a weight makes autograd call its backward pass on the first stage, too.

    Args:
        waiter: of the stage.
        seconds: of a micro-batch, a third of them forward.
    """

    def __init__(self, waiter: Waiter, seconds: float) -> None:
        super().__init__()
        self._waiter, self._seconds = waiter, seconds
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        """Args: x, (samples of a micro-batch, width)."""
        out: Tensor = _Wait.apply(x, self.weight, self._waiter, self._seconds)  # type: ignore[no-untyped-call]
        return out


class _Wait(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, waiter: Waiter, seconds: float) -> Tensor:
        ctx.waiter, ctx.seconds = waiter, seconds
        waiter.wait(seconds * FORWARD_SHARE)
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None, None]:
        ctx.waiter.wait(ctx.seconds * (1 - FORWARD_SHARE))
        return grads[0], torch.zeros(1), None, None
