"""Halting of local representation alignment: where a loss is small enough, a block and those below are left alone.

For single samples a number goes down with each sample's feedback: the loss below which it halts, infinite once it has.
The feedback is then computed and sent all the same, and nothing is saved. For whole batches there is one number, and
a batch that has halted sends feedback without rows: blocks below compute neither loss nor gradient nor feedback.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Halt", "stopped", "stops", "verdict"]


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
