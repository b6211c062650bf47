"""Messages between stages, and their header as bytes.

A message is a small header and a tuple of tensors. The header is what every transport needs to rebuild the
tensors on the other side, so it is encoded here once and not in each of them.
"""

import struct
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache

import torch
from torch import Tensor

from pipeline.schedules.position import Position

__all__ = [
    "DTYPES", "FEEDBACK_EXTRA_BYTES", "Header", "Kind", "Message", "TensorSpec", "decode_header",
    "encode_header",
]  # fmt: skip

FEEDBACK_EXTRA_BYTES = torch.int64.itemsize
"""Bytes of the number that a rule may send for each sample along with its feedback to a neighbour."""


class Kind(IntEnum):
    """Why a message was sent; decides what the receiving stage does with it."""

    TRAIN = 0
    """An activation and its labels, to be learned from."""
    EVAL = 1
    """An activation and its labels, forward only."""
    FEEDBACK = 2
    """Feedback of a block above for a micro-batch: an error, a gradient, a target."""
    SETTLE = 3
    """One round of an exchange between neighbours about one micro-batch."""
    GRADIENT = 4
    """Part of a micro-batch's gradients, from one replica of a stage to another; see the module ``exchange``."""
    SUM = 5
    """Part of the sum of a step's gradients, likewise."""
    STATISTICS = 6
    """Running statistics, likewise; see the module ``running_stats``."""
    PUBLISHED = 7
    """A version of what the last block publishes, for all other stages; see the module ``publishing``."""
    BROADCAST = 8
    """What the last block sends to all that await it, where others are sent FEEDBACK; see ``mixed_program``."""
    PROBE = 9
    """An activation and its labels, forward only, between two training steps; see the module ``probing``."""
    SCORED = 10
    """News of a test batch, from the first replica of a stage to the others; see the module ``replica_program``."""
    EVAL_SETTLE = 11
    """As SETTLE, about a test batch."""


@dataclass(slots=True)
class Message:
    """One micro-batch, or what is said about one.

    ``TRAIN`` and ``EVAL`` carry ``(activation, labels)``; the tensors of the other kinds belong to the rule.
    """

    kind: Kind
    position: Position
    weight: float
    """This micro-batch's share of the samples of its optimizer step: 1.0 where a step is one micro-batch."""
    tensors: tuple[Tensor, ...]

    @property
    def num_bytes(self) -> int:
        """Payload in bytes, header left out."""
        return sum(t.numel() * t.element_size() for t in self.tensors)


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """Shape and dtype of one tensor of a message."""

    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def num_bytes(self) -> int:
        """Bytes of the contiguous tensor."""
        count = 1
        for size in self.shape:
            count *= size
        return count * self.dtype.itemsize


@dataclass(frozen=True, slots=True)
class Header:
    """A message without its payload."""

    kind: Kind
    position: Position
    weight: float
    specs: tuple[TensorSpec, ...]

    def message(self, tensors: tuple[Tensor, ...]) -> Message:
        """The message again, once the payload has arrived."""
        return Message(self.kind, self.position, self.weight, tensors)


# The position in this tuple is the code in the header: append, never reorder.
DTYPES: tuple[torch.dtype, ...] = (
    torch.float32, torch.float64, torch.float16, torch.bfloat16,
    torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool,
    torch.complex64, torch.complex128,
)  # fmt: skip
_CODES = {dtype: code for code, dtype in enumerate(DTYPES)}
_FIXED = struct.Struct("<BqqqdH")  # kind, epoch, step, microbatch, weight, number of tensors
_TENSOR = struct.Struct("<BB")  # dtype code, number of dimensions


def encode_header(message: Message) -> bytes:
    """The header of ``message`` as bytes.

    Raises:
        TypeError: a tensor's dtype cannot be sent.
    """
    parts = [
        _FIXED.pack(
            message.kind, *message.position, message.weight, len(message.tensors),
        )
    ]  # fmt: skip
    for tensor in message.tensors:
        code = _CODES.get(tensor.dtype)
        if code is None:
            known = ", ".join(str(dtype) for dtype in DTYPES)
            raise TypeError(
                f"cannot send a tensor of this dtype (given: {tensor.dtype}, expected: {known}). "
                "Convert it before sending."
            )
        parts.append(_TENSOR.pack(code, tensor.dim()))
        parts.append(struct.pack(f"<{tensor.dim()}q", *tensor.shape))
    return b"".join(parts)


def decode_header(data: bytes) -> Header:
    """The header that :func:`encode_header` wrote."""
    kind, epoch, step, microbatch, weight, num_tensors = _FIXED.unpack_from(data, 0)
    position = Position(epoch, step, microbatch)
    return Header(Kind(kind), position, weight, _decode_specs(num_tensors, data[_FIXED.size :]))


@lru_cache(maxsize=256)
def _decode_specs(num_tensors: int, data: bytes) -> tuple[TensorSpec, ...]:
    """The specs behind the fixed part; kept, since a stage meets the same few shapes all through a run."""
    offset = 0
    specs = []
    for _ in range(num_tensors):
        code, num_dims = _TENSOR.unpack_from(data, offset)
        offset += _TENSOR.size
        shape = struct.unpack_from(f"<{num_dims}q", data, offset)
        offset += 8 * num_dims
        specs.append(TensorSpec(shape, DTYPES[code]))
    return tuple(specs)
