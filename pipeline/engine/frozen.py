"""A frozen block's forward pass: in evaluation mode, without a graph, on full batches."""

import torch
from torch import Tensor

from pipeline.learning.rule import LearningRule
from pipeline.numerics.memory_format import channels_last as laid_channels_last

__all__ = ["forward_frozen"]


@torch.no_grad()
def forward_frozen(rule: LearningRule, x: Tensor, y: Tensor, batch_size: int, *, channels_last: bool) -> Tensor:
    """The output of a frozen block, (batch, *out_shape), whatever batch a sample is in.

    The batch is filled up to its full size: a matrix product may round differently for another number of rows, and an
    activation must not depend on which batch its sample was in, or the cache of frozen outputs would change the
    result.

    Args:
        rule: of the block, in evaluation mode.
        x: the block's input, (batch, *in_shape).
        y: labels, (batch, ...).
        batch_size: samples of a full batch.
        channels_last: maps lie channels last in memory.
    """
    missing = batch_size - len(x)
    if missing > 0:
        padded = torch.cat([x, x.new_zeros(missing, *x.shape[1:])])
        padded = laid_channels_last(padded) if channels_last else padded
        labels = torch.cat([y, y.new_zeros(missing, *y.shape[1:])])
        out: Tensor = rule(padded, labels)[0]
        return out[: len(x)]
    whole: Tensor = rule(x, y)[0]
    return whole
