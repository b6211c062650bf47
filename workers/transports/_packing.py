"""Tensors laid out one after another in one piece of memory; see :mod:`pipeline.numerics.packed` for the layout."""

from collections.abc import Sequence

import torch
from torch import Tensor

from pipeline.engine.message import TensorSpec
from pipeline.numerics.packed import ALIGN, packed_bytes, padded

__all__ = ["ALIGN", "is_plain", "own_copy", "pack", "packed_bytes", "padded", "unpack"]


def is_plain(tensor: Tensor) -> bool:
    """Whether its memory is of the host, and its values in their order. That of a lazy conjugate or negative holds
    others, though it is contiguous."""
    return tensor.is_cpu and tensor.is_contiguous() and not (tensor.is_conj() or tensor.is_neg())


def own_copy(tensor: Tensor, device: torch.device) -> Tensor:
    """A contiguous copy on ``device`` that shares nothing with ``tensor`` and remembers no graph.

    Contiguous whatever the strides were: a matrix product may round differently on a transposed view, and no
    transport may change a result.
    """
    return torch.empty(tensor.shape, dtype=tensor.dtype, device=device).copy_(tensor.detach())


def pack(tensors: Sequence[Tensor], out: Tensor) -> None:
    """Copies ``tensors`` into ``out``, whatever their strides and devices.

    Args:
        tensors: of any shapes and dtypes.
        out: uint8, (at least :func:`packed_bytes`,), starting at a multiple of 16 bytes.
    """
    at = 0
    for tensor in tensors:
        num_bytes = tensor.nbytes
        if num_bytes:
            out[at : at + num_bytes].view(tensor.dtype).view(tensor.shape).copy_(tensor.detach())
        at += padded(num_bytes)


def unpack(specs: Sequence[TensorSpec], buffer: Tensor) -> tuple[Tensor, ...]:
    """The tensors that :func:`pack` laid out, as parts of ``buffer``'s memory.

    They are built over the storage and are no views: views of one buffer would share autograd's version counter, and
    a change of one tensor in place would make another, saved for backward, count as changed.
    """
    storage, at = buffer.untyped_storage(), buffer.storage_offset()
    tensors = []
    for spec in specs:
        tensor = torch.empty(0, dtype=spec.dtype, device=buffer.device)
        if spec.num_bytes:
            size = spec.dtype.itemsize
            tensor.set_(storage, at // size, (spec.num_bytes // size,), (1,))
        tensors.append(tensor.view(spec.shape))
        at += padded(spec.num_bytes)
    return tuple(tensors)
