"""Random samples of a data set's form, to time blocks and stages with."""

import torch
from torch import Tensor

from pipeline.data.dataset import DataSpec
from pipeline.data.task import Labels, Task

__all__ = ["random_inputs", "random_labels"]


def random_inputs(data: DataSpec, rows: int, generator: torch.Generator) -> Tensor:
    """Inputs of the network: numbers in [0, 1) or tokens, (rows, *input_shape), on the CPU."""
    shape = (rows, *data.input_shape)
    if data.num_tokens:
        return torch.randint(data.num_tokens, shape, generator=generator, dtype=data.input_dtype)
    return torch.rand(shape, generator=generator)


def random_labels(task: Task, rows: int, generator: torch.Generator) -> Tensor:
    """Labels, (rows, *task.label_shape) of the task's dtype, on the CPU."""
    shape = (rows, *task.label_shape)
    if task.labels is Labels.NUMBERS:
        return torch.rand(shape, generator=generator, dtype=task.label_dtype)
    return torch.randint(max(2, task.num_outputs), shape, generator=generator, dtype=task.label_dtype)
