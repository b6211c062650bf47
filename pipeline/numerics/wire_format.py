"""Wire formats: activations in fewer bytes, for the links between stages.

A format is a pair of functions, and ``rounded(x)`` is one after the other: ``decode(encode(x))``. Every operation is
one that IEEE 754 rounds correctly (division, multiplication, conversion, rounding to the nearest integer with ties to
the even one) or that rounds nothing (a maximum), so every processor gives the same bits.

- ``bfloat16``, ``float16``: to the nearest number of that format, ties to even. float16 ends at 65 504, and what is
  larger becomes infinite.
- ``int8``: a scale for each sample, ``s = max|x| / 127`` over its numbers and at least 2^-100, in float32; the codes
  are ``x / s`` to the nearest integer, from -127 to 127, and stand for ``code * s``. A sample with a nan or an
  infinity gets the scale nan and becomes nan as a whole, so a guard finds it. Zeros become +0. Where a sample has
  features at each of its positions, each of these has such a scale in place of the sample.

The scale belongs to the sample and not to the batch: what a sample becomes must not depend on the others in its batch,
nor a position on later ones.
"""

from math import prod

import torch
from torch import Tensor

from pipeline.numerics.wire_names import Wire

__all__ = [
    "Wire", "decode", "encode", "label_dtype", "num_parts", "pack_feedback", "rounded", "sample_bytes",
    "unpack_feedback",
]  # fmt: skip

_FLOATS = {"bfloat16": torch.bfloat16, "float16": torch.float16}
_LARGEST_CODE = 127
_LEAST_SCALE = 2.0**-100
"""So that all products and quotients are normal numbers or 0: processors may flush smaller ones to 0, or not."""
_LARGEST_SCALE = float.fromhex("0x1.0204060000000p+121")
"""So that what is finite stays finite: 127 times the next larger float32 is infinite."""
_LABELS = (torch.uint8, torch.int16, torch.int32)


def encode(x: Tensor, wire: Wire, positions: tuple[int, ...] = ()) -> tuple[Tensor, ...]:
    """``x`` in a wire format.

    Args:
        x: (batch, ...) of at least two dimensions, float32 or narrower.
        wire: not ``same``.
        positions: shape of a sample's positions, which have their own scales if ``x`` is (batch, *positions, ...).

    Returns:
        One tensor of the shape and the memory format of ``x``; under ``int8`` also the scales, (batch, 1, ...) or
        (batch, *positions, 1, ...).
    """
    if wire != "int8":
        return (x.to(_FLOATS[wire]),)
    codes, scale = _codes(x.float(), positions)
    return codes.to(torch.int8), scale


def _codes(x: Tensor, positions: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """The codes of ``int8``, still in float32, and the scales."""
    dims = tuple(range(1 + len(_scales(tuple(x.shape[1:]), positions)), x.dim()))
    largest = torch.maximum(x.amax(dims, keepdim=True), x.amin(dims, keepdim=True).neg_())
    # Not by a Python number: a GPU would multiply by its reciprocal, which is rounded.
    scale = largest.div(torch.full_like(largest, _LARGEST_CODE)).clamp_(_LEAST_SCALE, _LARGEST_SCALE)
    scale += largest - largest  # 0, but nan where it is not finite
    return x.div(scale).round_(), scale


def decode(parts: tuple[Tensor, ...], wire: Wire) -> Tensor:
    """What :func:`encode` made ``parts`` of, rounded: (batch, ...), float32, its memory its own."""
    if wire != "int8":
        return parts[0].float()
    codes, scale = parts
    return codes.float().mul_(scale)


def _scales(shape: tuple[int, ...], positions: tuple[int, ...]) -> tuple[int, ...]:
    """Shape of the scales of a sample of ``shape``: ``positions`` if there are features at each, else ()."""
    count = len(positions)
    return positions if len(shape) > count and shape[:count] == positions else ()


def rounded(x: Tensor, wire: Wire, positions: tuple[int, ...] = ()) -> Tensor:
    """``x`` as it would arrive: (batch, ...), float32; the bits of ``decode(encode(x))``, in less time."""
    if wire != "int8":
        return decode(encode(x, wire), wire)
    codes, scale = _codes(x.float(), positions)
    return codes.add_(0.0).mul_(scale)  # integers know no -0


def num_parts(wire: Wire) -> int:
    """Tensors that :func:`encode` makes of one."""
    return 2 if wire == "int8" else 1


def sample_bytes(
    shape: tuple[int, ...], dtype: torch.dtype, wire: Wire, positions: tuple[int, ...] = ()
) -> int:  # fmt: skip
    """Bytes of one sample of ``shape`` on the wire; ``dtype`` is what it is sent in under ``same``."""
    if wire == "int8":
        return prod(shape) + prod(_scales(shape, positions)) * torch.float32.itemsize
    return prod(shape) * _FLOATS.get(wire, dtype).itemsize


def label_dtype(num_classes: int) -> torch.dtype:
    """The narrowest dtype that holds the labels 0 to ``num_classes - 1``."""
    return next((dtype for dtype in _LABELS if num_classes - 1 <= torch.iinfo(dtype).max), torch.int64)


def pack_feedback(tensors: tuple[Tensor, ...], wire: Wire) -> tuple[Tensor, ...]:
    """Feedback in a wire format: its tensors of floating-point numbers for each sample; the others as they are.

    Samples have one scale, those with positions too: no activation depends on feedback before the next step.
    """
    parts: list[Tensor] = []
    for tensor in tensors:
        parts += encode(tensor, wire) if tensor.is_floating_point() and tensor.dim() > 1 else (tensor,)
    return tuple(parts)


def unpack_feedback(parts: tuple[Tensor, ...], wire: Wire) -> tuple[Tensor, ...]:
    """Undo :func:`pack_feedback`, with the numbers rounded."""
    packed = _FLOATS.get(wire, torch.int8)
    left = iter(parts)
    tensors = []
    for part in left:
        if part.dtype is packed and part.dim() > 1:
            tensors.append(decode((part, *(next(left) for _ in range(num_parts(wire) - 1))), wire))
        else:
            tensors.append(part)
    return tuple(tensors)
