"""Wire formats on a CUDA device: the bits of the CPU, number by number."""

import pytest
import torch
from tests.unit.numerics.test_wire_format import WIRES, drawn, numbers

from pipeline.numerics.wire_format import decode, encode, rounded

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]


def bits(x):
    return x.cpu().view(torch.int32)


@pytest.mark.parametrize("wire", WIRES)
def test_a_gpu_gives_the_bits_of_the_cpu(wire):
    """Among them are largest numbers of a sample for which a product with 1 / 127 is not the quotient."""
    for x in (numbers(), drawn()):
        assert torch.equal(bits(rounded(x.cuda(), wire)), bits(rounded(x, wire)))
        assert torch.equal(bits(decode(encode(x.cuda(), wire), wire)), bits(rounded(x, wire)))
