import torch

from pipeline.engine.message import TensorSpec
from workers.transports._packing import ALIGN, own_copy, pack, packed_bytes, padded, unpack


def test_padded():
    assert [padded(n) for n in (0, 1, 64, 65)] == [0, 64, 64, 128]


def test_unpack_finds_what_pack_laid_out_behind_an_offset():
    tensors = [torch.rand(3, 5).t(), torch.tensor(True), torch.zeros(0, 4), torch.arange(9)]
    buffer = torch.full((256 + packed_bytes(tensors),), 255, dtype=torch.uint8)[256:]
    pack(tensors, buffer)
    found = unpack([TensorSpec(tuple(t.shape), t.dtype) for t in tensors], buffer)
    assert all(torch.equal(a, b) and a.is_contiguous() for a, b in zip(found, tensors))
    starts = [t.data_ptr() - buffer.data_ptr() for t in found if t.numel()]
    assert starts == [0, ALIGN, 2 * ALIGN]


def test_unpacked_tensors_count_their_changes_apart():
    specs = [TensorSpec((4,), torch.float32)] * 2
    first, second = unpack(specs, torch.zeros(2 * ALIGN, dtype=torch.uint8))
    before = first._version, second._version
    first.add_(1)
    assert (first._version, second._version) == (before[0] + 1, before[1])
    assert second.tolist() == [0.0] * 4


def test_own_copy_is_contiguous_and_forgets_the_graph():
    source = torch.rand(3, 5, requires_grad=True).t() * 2
    copy = own_copy(source, torch.device("cpu"))
    assert torch.equal(copy, source) and copy.is_contiguous() and not copy.requires_grad
    assert copy.data_ptr() != source.data_ptr()
