"""Exact gradients inside one block, of the output loss or of the feedback from above."""

import torch
from torch import Tensor

from pipeline.learning.rule import BlockSpec

__all__ = ["descend", "descend_on"]


def descend_on(loss: Tensor, weight: float) -> Tensor:
    """Add the gradients of ``weight * loss``, 0-d, to the leaves of its graph, if it has any; returns the loss,
    detached."""
    if loss.requires_grad:  # not so where all weights that it depends on are fixed
        torch.autograd.backward(loss if weight == 1.0 else loss * weight)
    return loss.detach()


def descend(spec: BlockSpec, out: Tensor, y: Tensor, feedback: tuple[Tensor, ...], weight: float) -> Tensor | None:
    """Add the gradients of one micro-batch to the block's parameters, and to its input if that requires one.

    Args:
        spec: the last block descends on the task's loss, the others along ``feedback``.
        out: the block's output with its graph, (batch, *out_shape).
        y: labels, (batch, *task.label_shape).
        feedback: the loss's derivative by ``out``, or an estimate of it, already weighted; empty for the last block.
        weight: share of the optimizer step's samples; used by the last block only.

    Returns:
        The loss, a detached scalar; None but for the last block.
    """
    if spec.is_last:
        return descend_on(spec.task.loss(out, y), weight)
    if out.requires_grad:  # not so for a first block without parameters
        torch.autograd.backward(out, feedback[0])
    return None
