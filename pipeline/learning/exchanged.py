"""What the replicas of a block exchange, in shapes: known before a process is started."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from pipeline.learning.rule import LearningRule

__all__ = ["Exchanged", "GradientShape", "by_dtype", "keeps_statistics"]


@dataclass(frozen=True, slots=True)
class GradientShape:
    """The gradients of all parameters of one dtype, which travel as one vector."""

    dtype: torch.dtype
    num_values: int
    num_parameters: int


@dataclass(frozen=True, slots=True)
class Exchanged:
    """Of one block; nothing of a frozen one."""

    gradients: tuple[GradientShape, ...] = ()
    statistics: tuple[tuple[torch.dtype, int], ...] = ()
    """Dtype and number of values of each running statistic."""

    @classmethod
    def of(cls, rule: LearningRule) -> Self:
        """Of the block under ``rule``."""
        stepped = by_dtype(p for parameters, _ in rule.parameter_groups() for p in parameters)
        gradients = [GradientShape(t, sum(p.numel() for p in some), len(some)) for t, some in stepped.items()]
        kept = (buffer for m in rule.modules() if keeps_statistics(m) for buffer in m.buffers())
        return cls(tuple(gradients), tuple((buffer.dtype, buffer.numel()) for buffer in kept))

    @property
    def gradient_bytes(self) -> int:
        """Of the gradients."""
        return sum(vector.num_values * vector.dtype.itemsize for vector in self.gradients)


def by_dtype(parameters: Iterable[nn.Parameter]) -> dict[torch.dtype, list[nn.Parameter]]:
    """The parameters of each dtype, in the order of their first ones."""
    found: dict[torch.dtype, list[nn.Parameter]] = {}
    for parameter in parameters:
        found.setdefault(parameter.dtype, []).append(parameter)
    return found


def keeps_statistics(module: nn.Module) -> bool:
    """A layer that normalises over the batch and remembers its running mean and variance."""
    return isinstance(module, _BatchNorm) and module.running_mean is not None
