"""A model of the gradient by a block's output, from that output and perhaps the labels."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["Synthesiser"]

_KERNEL = 5
_EPS = 1e-5


class _Layer(nn.Module):
    """Linear on vectors, a 5 x 5 convolution on maps; then batch norm and ReLU, if it is hidden.

    The layer is only ever asked in training, so statistics are those of the batch and none are kept.
    """

    def __init__(self, num_in: int, num_out: int, *, maps: bool, hidden: bool) -> None:
        super().__init__()
        self.map: nn.Module
        if maps:
            self.map = nn.Conv2d(num_in, num_out, _KERNEL, padding=_KERNEL // 2)
        else:
            self.map = nn.Linear(num_in, num_out)
        self.hidden = hidden
        if hidden:
            self.scale, self.shift = nn.Parameter(torch.ones(num_out)), nn.Parameter(torch.zeros(num_out))

    def forward(self, x: Tensor, added: Tensor | None = None) -> Tensor:
        """Args: x, (batch, num_in, ...); added to the pre-activation, (batch, num_out)."""
        a: Tensor = self.map(x)
        if added is not None:
            a = a + (added if a.dim() == 2 else added[:, :, None, None])
        if not self.hidden:
            return a
        if a.numel() == a.shape[1]:  # one vector is its own mean
            return F.relu((a - a.detach()) * self.scale + self.shift)
        return F.relu(F.batch_norm(a, None, None, self.scale, self.shift, training=True, eps=_EPS))


class Synthesiser(nn.Module):
    """Predicts the gradient of each sample's loss by a block's output; what it says at first is 0.

    Source: Jaderberg et al., "Decoupled Neural Interfaces using Synthetic Gradients" (2017): hidden layers with batch
    norm and ReLU, the last layer beginning at 0; labels enter by a linear map into the first layer's pre-activation.
    Deviation: the last layer's bias begins at 0, too, so that no block moves before the model has learned anything.

    Args:
        shape: of the block's output, without the batch: a vector, or (channels, height, width).
        num_labels: width of the labels' representation; 0: they are not looked at.
        layers: hidden ones; 0 makes the model linear.
        width: their units, or channels.

    Raises:
        ValueError: the output is of another shape.
    """

    def __init__(self, shape: tuple[int, ...], num_labels: int, *, layers: int, width: int) -> None:
        super().__init__()
        if len(shape) not in (1, 3):
            raise ValueError(
                f"synthetic gradients are those of a vector or of maps (given: a block whose output has the shape "
                f"{shape}, expected: (features,) or (channels, height, width)). End the block with nn.Flatten, or "
                "choose another rule."
            )
        maps, size = len(shape) == 3, shape[0]
        sizes = [size, *[width] * layers, size]
        pairs = list(zip(sizes, sizes[1:], strict=False))
        self.layers = nn.ModuleList(
            _Layer(a, b, maps=maps, hidden=k < layers) for k, (a, b) in enumerate(pairs)
        )
        self.labels = nn.Linear(num_labels, sizes[1], bias=False) if num_labels else None
        for parameter in self.layers[-1].parameters():
            nn.init.zeros_(parameter)
        if self.labels is not None and layers == 0:
            nn.init.zeros_(self.labels.weight)

    def forward(self, z: Tensor, labels: Tensor) -> Tensor:
        """Args: z, (batch, *shape); labels, (batch, num_labels). Returns: of the shape of ``z``."""
        added = self.labels(labels.to(z.dtype)) if self.labels is not None else None
        for k, layer in enumerate(self.layers):
            z = layer(z, added if k == 0 else None)
        return z
