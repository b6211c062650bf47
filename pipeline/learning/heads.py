"""Linear classifiers on a block's output: the pooled head of pred and predsim, and the cleared output block."""

from math import ceil, prod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.data.task import Task
from pipeline.learning.dense import accumulate
from pipeline.network.block import Block

__all__ = ["AveragePool", "PooledHead", "clear_output", "pool_sizes"]


def pool_sizes(shape: tuple[int, int, int], dimdec: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Kernel and output size of the average-pool that leaves about ``dimdec`` features.

    Height and width of the kernel are doubled in turn, height first, until the map has at most ``dimdec`` values or
    the kernel is as high as the map.

    Args:
        shape: shape of the map, (channels, height, width).
        dimdec: maximum number of features behind the pool.

    Returns:
        The kernel (height, width), which is also the stride; and the pooled map's (height, width).
    """
    channels, height, width = shape
    kernel_h = kernel_w = 1
    pooled_h, pooled_w = height, width
    while channels * pooled_h * pooled_w > dimdec and kernel_h < height:
        kernel_h *= 2
        pooled_h = ceil(height / kernel_h)
        if channels * pooled_h * pooled_w > dimdec:
            kernel_w *= 2
            pooled_w = ceil(width / kernel_w)
    return (kernel_h, kernel_w), (pooled_h, pooled_w)


class AveragePool(nn.Module):
    """Average-pool for maps, down to about ``dimdec`` features; the identity on other inputs.

    Padding fills up a map that the kernel does not divide; its zeros count in the mean.

    Args:
        shape: shape of the input, without the batch: (channels, height, width) is pooled.
        dimdec: see :func:`pool_sizes`.
    """

    def __init__(self, shape: tuple[int, ...], dimdec: int) -> None:
        super().__init__()
        self.kernel, self.padding, self.out_shape = (1, 1), (0, 0), shape
        if len(shape) == 3:
            channels, height, width = shape
            self.kernel, pooled = pool_sizes((channels, height, width), dimdec)
            self.padding = (_padding(height, self.kernel[0]), _padding(width, self.kernel[1]))
            self.out_shape = (channels, *pooled)

    def forward(self, h: Tensor) -> Tensor:
        """Args: h (batch, *shape). Returns: (batch, channels, pooled height, pooled width), or h itself."""
        return h if self.kernel == (1, 1) else F.avg_pool2d(h, self.kernel, padding=self.padding)


class PooledHead(nn.Module):
    """Average-pool for maps, then a linear layer with bias, its weight 0 at the start.

    Args:
        shape: shape of the input, without the batch and the positions; flattened behind the pool.
        num_outputs: width of the head's output.
        dimdec: see :func:`pool_sizes`.
        num_leading: dimensions of positions behind the batch's, at each of which the head is the same.
    """

    def __init__(self, shape: tuple[int, ...], num_outputs: int, dimdec: int, num_leading: int = 0) -> None:
        super().__init__()
        self.num_leading = num_leading
        self.pool = AveragePool(shape, dimdec)
        self.linear = nn.Linear(prod(self.pool.out_shape), num_outputs)
        nn.init.zeros_(self.linear.weight)

    def forward(self, h: Tensor) -> Tensor:
        """Args: h (batch, *positions, *shape). Returns: (batch, *positions, num_outputs)."""
        scores: Tensor = self.linear(self.pool(h).flatten(1 + self.num_leading))
        return scores

    def descend(self, task: Task, h: Tensor, y: Tensor, weight: float) -> tuple[Tensor, Tensor]:
        """Add the gradients of the head: the operations that autograd would call, without its graph.

        Args:
            task: whose loss it is.
            h: without a graph, (batch, features), and nothing to pool.
            y: labels, (batch,).
            weight: share of the optimizer step's samples.

        Returns:
            The loss, detached, 0-d, and the derivative of ``weight * loss`` by ``h``, (batch, features).
        """
        linear = self.linear
        weights = linear.weight.detach()
        loss, error = task.loss_and_error(torch.addmm(linear.bias.detach(), h, weights.t()), y, weight)
        accumulate(linear.weight, torch.mm(error.t(), h))
        accumulate(linear.bias, error.sum(0))
        return loss, torch.mm(error, weights)


def _padding(size: int, kernel: int) -> int:
    """Half a kernel where ``kernel`` does not divide ``size``, so that the pooled size is rounded up."""
    return 0 if size % kernel == 0 else kernel // 2


def clear_output(block: Block) -> Block:
    """Set the weight of the block's last linear layer to 0, its initial value under these rules; returns ``block``.

    A weight that is fixed stays: it would be 0 for ever.
    """
    layers = [m for m in block.modules() if isinstance(m, nn.Linear)]
    if layers and layers[-1].weight.requires_grad:
        nn.init.zeros_(layers[-1].weight)
    return block
