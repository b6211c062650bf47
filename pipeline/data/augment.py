"""Crop, flip and cutout for a whole batch at once, on the device that holds it.

The random numbers are drawn on the CPU, so that a run on a GPU sees the crops that a run on the CPU sees. No loop goes
over samples: on one thread all three together cost about 0.15 ms for 128 images of 28x28.
"""

from dataclasses import dataclass, fields
from typing import Annotated, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.errors import ConfigError
from pipeline.ranges import Natural, Range

__all__ = ["Augment", "Draws", "crop", "cutout", "draw", "flip"]


@dataclass(frozen=True)
class Augment:
    """Augmentation of the training images; none by default.

    Raises:
        ConfigError: a negative size.
    """

    crop_padding: Annotated[int, Range(0, 1024)] = 0
    """Pixels of black added at each border before a crop of the original size is taken anywhere."""
    flip: bool = False
    """Mirrors left and right with probability 1/2."""
    cutout: Natural = 0
    """Edge in pixels of one square that is set to 0 after normalisation; it may reach over the border."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value < 0:
                raise ConfigError(
                    f"an augmentation cannot be negative (given: dataset.{field.name}={value}, expected: 0 or more). "
                    "Set it to 0 to leave it out."
                )

    @property
    def is_identity(self) -> bool:
        """True where every epoch sees the same images."""
        return self == Augment()


class Draws(NamedTuple):
    """The random choices for one batch, each (batch,) of dtype int64."""

    top: Tensor
    """Row of the padded image at which the crop begins, in [0, 2 * crop_padding]."""
    left: Tensor
    """The same for the column."""
    mirrored: Tensor
    """1 where the image is flipped."""
    row: Tensor
    """Row of the centre of the square that is cut out, in [0, height)."""
    column: Tensor
    """The same for the column, in [0, width)."""


def draw(augment: Augment, shape: torch.Size, generator: torch.Generator, device: torch.device) -> Draws:
    """The random choices for a batch of images.

    All five are always drawn, so that switching one augmentation on leaves the choices of the others as they were.

    Args:
        shape: shape of the batch, (batch, channels, height, width).
        generator: generator on the CPU.
        device: device of the result.
    """
    batch, _, height, width = shape
    places = 2 * augment.crop_padding + 1
    limits = torch.tensor([[places], [places], [2], [height], [width]])
    # In float64 a product below the limit never rounds up to it.
    uniform = torch.rand((5, batch), generator=generator, dtype=torch.float64)
    return Draws(*(uniform * limits).long().to(device).unbind())


def crop(x: Tensor, padding: int, top: Tensor, left: Tensor) -> Tensor:
    """Zero-pads by ``padding`` and takes a window of the original size.

    A row of a window is contiguous in the padded image, so each is copied as one piece; that is a quarter of the
    time of indexing ``unfold``, and a fifth of ``gather``.

    Args:
        x: (batch, channels, height, width), any dtype.
        padding: in pixels, at all four borders.
        top: (batch,), in [0, 2 * padding].
        left: (batch,), in [0, 2 * padding].

    Returns:
        Same shape and dtype as ``x``.
    """
    batch, channels, height, width = x.shape
    padded = F.pad(x, (padding, padding, padding, padding))
    stride = width + 2 * padding
    area = (height + 2 * padding) * stride
    images = torch.arange(batch * channels, device=x.device).view(batch, channels, 1) * area
    rows = torch.arange(height, device=x.device) * stride
    starts = images + rows + (top * stride + left).view(batch, 1, 1)
    # Window i of this overlapping view begins at element i of the padded images.
    windows = padded.as_strided((padded.numel() - width + 1, width), (1, 1))
    return windows.index_select(0, starts.view(-1)).view(x.shape)


def flip(x: Tensor, mirrored: Tensor) -> Tensor:
    """Mirrors some images left and right.

    Choosing whole images out of both versions is a third of the time of ``torch.where`` over pixels.

    Args:
        x: (batch, channels, height, width), any dtype.
        mirrored: (batch,), 1 where the image is mirrored, else 0.
    """
    both = torch.cat((x, x.flip(3)))
    return both.index_select(0, torch.arange(len(x), device=x.device) + len(x) * mirrored)


def cutout(x: Tensor, size: int, row: Tensor, column: Tensor) -> Tensor:
    """Sets one square of each image to 0, in place, clipped at the borders.

    Source: DeVries and Taylor 2017; the square spans ``[centre - size // 2, centre - size // 2 + size)``.

    Args:
        x: (batch, channels, height, width), floating point, normalised already.
        size: edge of the square in pixels.
        row: (batch,), of the centre.
        column: (batch,), of the centre.
    """
    inside_rows = _inside(x.shape[2], size, row).to(x.dtype)
    inside_columns = _inside(x.shape[3], size, column).to(x.dtype)
    # (batch, 1, height, width); multiplying is less than half the time of masked_fill_.
    return x.mul_(1 - inside_rows[:, None, :, None] * inside_columns[:, None, None, :])


def _inside(length: int, size: int, centre: Tensor) -> Tensor:
    """Which of ``length`` positions the square covers, (batch, length)."""
    offset = torch.arange(length, device=centre.device) - (centre - size // 2).unsqueeze(1)
    return (offset >= 0) & (offset < size)
