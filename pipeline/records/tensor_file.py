"""Tensors in one file that proves itself: the format of safetensors, with a checksum of the whole file in its metadata.

    8 bytes   length of the header, little endian
    header    JSON: for each tensor its dtype, shape and place; ``__metadata__`` with ``crc32`` and what the writer says
    data      the tensors' bytes, one after another

Any library that reads safetensors reads these files, but for ``C128``, which that format lacks. A flipped bit anywhere
in one is noticed by :func:`read_tensors`: the checksum is taken over every byte, with zeros in its own place. It guards
against accidents, not against malice; nothing in such a file is ever executed.
"""

import json
import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from pipeline.errors import DamagedFile

__all__ = ["Packed", "TensorFile", "pack", "read_tensors"]

_DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "C64": torch.complex64,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8,
    "BOOL": torch.bool, "U16": torch.uint16, "U32": torch.uint32, "U64": torch.uint64,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2, "C128": torch.complex128,
}  # fmt: skip
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
_NO_CRC = "00000000"
_ABOUT = "__metadata__"


@dataclass
class Packed:
    """Tensors and facts as the bytes of a file."""

    header: bytes
    """The length in front, and zeros in place of the checksum."""
    data: Tensor
    """uint8, 1-d, on the CPU; memory that the caller may use again once the file is written."""

    def write(self, file: BinaryIO) -> int:
        """Writes the file. Returns: its checksum."""
        view = self.data.numpy().data
        crc = zlib.crc32(view, zlib.crc32(self.header))
        file.write(self.header.replace(_NO_CRC.encode(), f"{crc:08x}".encode(), 1))
        file.write(view)
        return crc

    @property
    def num_bytes(self) -> int:
        """Of the file."""
        return len(self.header) + len(self.data)


@dataclass(frozen=True)
class TensorFile:
    """What a file holds."""

    tensors: dict[str, Tensor]
    """On the CPU, in memory of their own."""
    about: Any
    """What the writer said."""
    crc32: int
    """Of the file."""


def pack(tensors: Mapping[str, Tensor], about: Any = None, buffer: Tensor | None = None) -> Packed:
    """Copies tensors into one piece of memory, to be written whenever there is time.

    Args:
        tensors: by name, of any device and layout; their order is kept.
        about: anything that JSON can hold, not-a-number included.
        buffer: uint8, 1-d; used where it is large enough, else new memory is.

    Raises:
        TypeError: the format has no word for a dtype.
    """
    places: dict[str, Any] = {_ABOUT: {"crc32": _NO_CRC, "about": json.dumps(about), "order": json.dumps([*tensors])}}
    total = 0
    # The widest first, so that each tensor lies where its dtype may.
    ordered = sorted(tensors.items(), key=lambda item: -item[1].element_size())
    for name, tensor in ordered:
        if tensor.dtype not in _NAMES:
            raise TypeError(f"cannot store {name} (given: {tensor.dtype}, expected: {', '.join(_DTYPES)}). Convert it.")
        end = total + tensor.numel() * tensor.element_size()
        places[name] = {"dtype": _NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [total, end]}
        total = end
    if buffer is None or len(buffer) < total:
        buffer = torch.empty(total, dtype=torch.uint8)
    data = buffer[:total]
    for name, tensor in ordered:
        start, end = places[name]["data_offsets"]
        if end > start:
            data[start:end].view(tensor.dtype).view(tensor.shape).copy_(tensor.detach())
    text = json.dumps(places).encode()
    text += b" " * (-len(text) % 8)
    return Packed(len(text).to_bytes(8, "little") + text, data)


def read_tensors(path: Path) -> TensorFile:
    """Reads a file that :func:`pack` made, and proves it.

    Raises:
        DamagedFile: it is not there, cannot be read, or is not as it was written.
    """
    try:
        content = bytearray(path.read_bytes())
    except OSError as error:
        raise DamagedFile(path, error.strerror or str(error)) from None
    try:
        start, places = _header(content)
        stated = places[_ABOUT]["crc32"]
        if stated != _checksum(content, start, stated):
            raise ValueError("its checksum is not the one that it states")
        tensors = {name: _tensor(content, start, places[name]) for name in json.loads(places[_ABOUT]["order"])}
        return TensorFile(tensors, json.loads(places[_ABOUT]["about"]), int(stated, 16))
    except (ValueError, KeyError, TypeError, AttributeError, RuntimeError, RecursionError) as error:
        raise DamagedFile(path, str(error) if isinstance(error, ValueError) else f"{type(error).__name__}") from None


def _checksum(content: bytearray, start: int, stated: str) -> str:
    """The checksum of a file that states ``stated``, whose data is at ``start``."""
    zeroed = bytes(content[:start]).replace(stated.encode(), _NO_CRC.encode(), 1)
    return f"{zlib.crc32(memoryview(content)[start:], zlib.crc32(zeroed)):08x}"


def _header(content: bytearray) -> tuple[int, dict[str, Any]]:
    """Where the data starts, and the header's contents."""
    length = int.from_bytes(content[:8], "little")
    if len(content) < 8 or length > len(content) - 8:
        raise ValueError(f"it is cut short, to {len(content)} bytes")
    places = json.loads(content[8 : 8 + length])
    if not isinstance(places, dict) or not isinstance(places.get(_ABOUT), dict):
        raise ValueError("it is not a file of tensors")
    return 8 + length, places


def _tensor(content: bytearray, start: int, place: Mapping[str, Any]) -> Tensor:
    """One tensor, in memory of its own.

    Its bytes are copied as bytes: in the file a number of 16 bytes may stand at a multiple of 8, and code for
    processors without AVX, which copies numbers, ends the process there.
    """
    dtype, shape = _DTYPES[place["dtype"]], place["shape"]
    count = math.prod(shape)
    if count == 0:
        return torch.empty(shape, dtype=dtype)
    offset = start + place["data_offsets"][0]
    data = torch.frombuffer(content, dtype=torch.uint8, count=count * dtype.itemsize, offset=offset)
    return data.clone().view(dtype).view(shape)
