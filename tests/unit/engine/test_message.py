import pytest
import torch

from pipeline.engine.message import DTYPES, Kind, Message, TensorSpec, decode_header, encode_header
from pipeline.schedules.position import Position


def test_header_round_trip():
    tensors = (torch.zeros(3, 0, 5), torch.tensor(1, dtype=torch.bool), torch.zeros(7, 2, dtype=torch.bfloat16))
    sent = Message(Kind.FEEDBACK, Position(3, 2**40, 5), 0.25, tensors)
    header = decode_header(encode_header(sent))
    assert (header.kind, header.position) == (Kind.FEEDBACK, Position(3, 2**40, 5))
    assert header.kind is Kind.FEEDBACK and header.weight == 0.25
    assert header.specs == (
        TensorSpec((3, 0, 5), torch.float32), TensorSpec((), torch.bool), TensorSpec((7, 2), torch.bfloat16),
    )  # fmt: skip
    again = header.message(tensors)
    assert again.tensors is tensors and (again.position, again.weight) == (sent.position, sent.weight)


@pytest.mark.parametrize("kind", list(Kind))
@pytest.mark.parametrize("num_tensors", [0, 1, 300])
def test_every_kind_and_any_number_of_tensors(kind, num_tensors):
    tensors = tuple(torch.zeros(n) for n in range(num_tensors))
    header = decode_header(encode_header(Message(kind, Position(0, 0), 1.0, tensors)))
    assert header.kind is kind
    assert [spec.shape for spec in header.specs] == [(n,) for n in range(num_tensors)]


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_keeps_its_size(dtype):
    tensor = torch.zeros(3, 4, dtype=dtype)
    message = Message(Kind.TRAIN, Position(0, 0), 1.0, (tensor, tensor[:, :2]))
    first, second = decode_header(encode_header(message)).specs
    assert first == TensorSpec((3, 4), dtype)
    assert first.num_bytes == tensor.nbytes and second.num_bytes == tensor.nbytes // 2
    assert message.num_bytes == first.num_bytes + second.num_bytes


def test_codes_on_the_wire_do_not_move():
    """A code is a position in DTYPES: two versions of this file may meet in one run."""
    assert DTYPES[:3] == (torch.float32, torch.float64, torch.float16)
    assert len(set(DTYPES)) == len(DTYPES)


def test_a_dtype_that_cannot_be_sent():
    tensor = torch.zeros(2, dtype=torch.float8_e4m3fn)
    with pytest.raises(TypeError, match=r"given: torch\.float8_e4m3fn, expected: torch\.float32, .*Convert it before"):
        encode_header(Message(Kind.TRAIN, Position(0, 0), 1.0, (tensor,)))
