"""Files of tensors: what is written is read, and nothing else is taken for it."""

import json
import random

import pytest
import torch

from pipeline.errors import DamagedFile
from pipeline.records.tensor_file import pack, read_tensors

TENSORS = {
    "a": torch.randn(3, 5), "counts": torch.arange(4), "scalar": torch.tensor(2.5), "empty": torch.empty(0, 3),
    "half": torch.randn(5).bfloat16(), "flags": torch.tensor([True, False, True]), "double": torch.randn(3).double(),
    "maps": torch.randn(2, 3, 4, 4).contiguous(memory_format=torch.channels_last), "turned": torch.randn(4, 6).t(),
    "nan": torch.tensor([float("nan"), float("inf"), -0.0]), "complex": torch.randn(2, dtype=torch.complex64),
    "wide": torch.randn(2, dtype=torch.complex128), "short": torch.arange(3).to(torch.uint16),
    "eight": torch.randn(3).to(torch.float8_e5m2),
}  # fmt: skip
ABOUT = {"block": 3, "loss": [0.1, float("inf"), None]}


@pytest.fixture
def path(tmp_path):
    where = tmp_path / "block.safetensors"
    with where.open("wb") as file:
        pack(TENSORS, ABOUT).write(file)
    return where


def test_every_dtype_shape_and_layout_comes_back(path):
    found = read_tensors(path)
    assert list(found.tensors) == list(TENSORS) and found.about == ABOUT
    for name, tensor in TENSORS.items():
        assert found.tensors[name].dtype == tensor.dtype and found.tensors[name].shape == tensor.shape
        assert found.tensors[name].contiguous().flatten().view(torch.uint8).tolist() == (
            tensor.contiguous().flatten().view(torch.uint8).tolist()
        )


def test_it_is_the_format_of_safetensors(path):
    """8 bytes of length, a JSON header, and data without holes, each tensor where its dtype may lie."""
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    about = header.pop("__metadata__")
    assert all(isinstance(value, str) for value in about.values()) and length % 8 == 0
    places = sorted(place["data_offsets"] for place in header.values())
    assert [start for start, _ in places] == [0, *(end for _, end in places[:-1])]
    assert places[-1][1] == len(content) - 8 - length
    assert all(place["data_offsets"][0] % TENSORS[name].element_size() == 0 for name, place in header.items())


def test_the_same_tensors_are_the_same_bytes_in_used_memory_too(path, tmp_path):
    used = torch.full((100_000,), 7, dtype=torch.uint8)
    packed = pack(TENSORS, ABOUT, used)
    assert packed.data.data_ptr() == used.data_ptr() and packed.num_bytes == path.stat().st_size
    with (tmp_path / "again").open("wb") as file:
        crc = packed.write(file)
    assert (tmp_path / "again").read_bytes() == path.read_bytes() and crc == read_tensors(path).crc32


def test_every_flipped_bit_is_noticed(tmp_path):
    path, accepted = tmp_path / "small", []
    with path.open("wb") as file:
        pack({"w": torch.randn(2, 3), "n": torch.tensor(3)}, {"block": 0}).write(file)
    good = path.read_bytes()
    for bit in range(8 * len(good)):
        content = bytearray(good)
        content[bit // 8] ^= 1 << bit % 8
        path.write_bytes(content)
        try:
            read_tensors(path)
            accepted.append(bit)
        except DamagedFile as error:
            assert error.path == path
    assert accepted == []


def test_every_length_is_noticed(path):
    good = path.read_bytes()
    for length in [*range(0, len(good), 7), len(good) - 1, len(good) + 1]:
        path.write_bytes((good + b"x")[:length])
        with pytest.raises(DamagedFile):
            read_tensors(path)


OTHERS = [b"", b"PK\x03\x04" * 50, b"\x08" + bytes(7) + b"[1,2,3] ", random.Random(0).randbytes(500)]


@pytest.mark.parametrize("content", OTHERS)
def test_other_files(path, content):
    path.write_bytes(content)
    with pytest.raises(DamagedFile, match=f"the file is damaged \\(given: {path}: .+\\). Take another snapshot"):
        read_tensors(path)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(DamagedFile, match="No such file"):
        read_tensors(tmp_path / "none")


def test_a_dtype_without_a_word():
    with pytest.raises(TypeError, match=r"cannot store x \(given: torch.float8_e4m3fnuz, expected: F64, .*\)\. "):
        pack({"x": torch.empty(1, dtype=torch.float8_e4m3fnuz)})
