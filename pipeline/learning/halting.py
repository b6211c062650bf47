"""Halting of local representation alignment: where a loss is small enough, a block and those below are left alone.

For single samples a number goes down with each sample's feedback: the loss below which it halts, infinite once it has.
The feedback is then computed and sent all the same. For whole batches there is one number, and
a batch that has halted sends feedback without rows: blocks below compute neither loss nor gradient nor feedback.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.learning.rule import Learned

__all__ = ["Halt", "left_alone", "limits_at_output", "stopped", "stops", "verdict"]


@dataclass(frozen=True, slots=True)
class Halt:
    """What a block does for a micro-batch."""

    active: Tensor
    """The samples that it is updated for, (batch,) bool."""
    limits: Tensor
    """For the block below, (batch,), or (1,) for the whole batch."""

    @property
    def credited(self) -> Tensor:
        """Number of these samples, 0-d."""
        return self.active.sum()

    def mask(self, e: Tensor) -> Tensor:
        """e, (batch, ...), with zeros for the other samples."""
        return e * self.active.view(-1, *[1] * (e.dim() - 1))


def verdict(losses: Tensor, limits: Tensor, *, whole: bool) -> Halt:
    """Which samples a block is updated for.

    Args:
        losses: of the samples, (batch,).
        limits: the losses below which they halt, (batch,), or (1,) for the whole batch, whose mean decides.
        whole: all samples or none.
    """
    if whole:
        goes_on = losses.mean() >= limits
        return Halt(goes_on.expand(len(losses)), torch.where(goes_on, limits, float("inf")).to(losses.dtype))
    active = losses >= limits
    return Halt(active, torch.where(active, limits, float("inf")).to(losses.dtype))


def stopped(like: Tensor) -> tuple[Tensor, Tensor]:
    """Feedback that says that the whole batch has halted. Args: like, of the block's input, (batch, ...)."""
    return like.new_empty(0, *like.shape[1:]), like.new_full((1,), float("inf"))


def stops(feedback: tuple[Tensor, ...]) -> bool:
    """True of such feedback; its shape tells, so that no device is waited for."""
    return bool(feedback) and len(feedback[0]) == 0


@torch.no_grad()
def limits_at_output(first_loss: Tensor, losses: Tensor, share: float, *, whole: bool) -> Tensor:
    """The limits that the output block begins with.

    Args:
        first_loss: 0-d, nan before the run's first micro-batch, whose mean loss it then becomes.
        losses: of the samples, (batch,).
        share: of that loss, below which a sample halts.
        whole: all samples or none.

    Returns:
        (batch,), or (1,) for the whole batch.
    """
    first_loss.copy_(torch.where(first_loss.isnan(), losses.mean(), first_loss))
    limit = first_loss * share
    return limit.view(1) if whole else limit.expand_as(losses)


def left_alone(x: Tensor, loss: Tensor | None, *, is_first: bool) -> Learned:
    """What a block learns from a micro-batch that has halted: nothing.

    Args:
        x: the block's input, (batch, ...).
        loss: its mean loss, 0-d, where it halts in this block; None where it has halted above: it is then 0.
        is_first: there is no block below to be told.
    """
    nobody = torch.zeros((), dtype=torch.int64, device=x.device)
    upstream = () if is_first else stopped(x.detach())
    return Learned(torch.zeros((), device=x.device) if loss is None else loss, upstream, nobody)
