"""The task that a user's own labels set: classes where they are whole numbers, else numbers."""

from collections.abc import Sequence

import torch
from torch import Tensor

from pipeline.data.position_tasks import PositionClasses, Regression
from pipeline.data.task import Classification, Task
from pipeline.errors import ConfigError

__all__ = ["own_task"]


def own_task(labels: Sequence[Tensor], where: str) -> Task:
    """The task of the labels of all splits.

    Args:
        labels: of each split, of one dtype and shape: whole numbers, (samples,) of one class for each sample or
            (samples, positions, ...); floating-point ones, (samples,), (samples, numbers) or (samples, positions, ...,
            numbers).
        where: they are, for error messages.

    Raises:
        ConfigError: classes are not counted from 0, there is only one, or labels are neither.
    """
    first = labels[0]
    if first.is_floating_point():
        shape = tuple(first.shape[1:]) or (1,)
        return Regression(shape[-1], shape[:-1])
    if first.dtype == torch.bool or first.is_complex():
        raise ConfigError(
            f"the labels of {where} have another dtype (given: {first.dtype}, expected: whole numbers of classes from "
            "0, or floating-point numbers). Convert them."
        )
    low, high = min(int(y.min()) for y in labels), max(int(y.max()) for y in labels)
    if low < 0 or high < 1:
        raise ConfigError(
            f"the labels of {where} are no classes (given: whole numbers from {low} to {high}, expected: from 0, of at "
            "least 2 classes). Correct them, or pass floating-point numbers to predict."
        )
    return Classification(high + 1) if first.dim() == 1 else PositionClasses(high + 1, tuple(first.shape[1:]))
