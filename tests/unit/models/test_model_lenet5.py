import pytest
import torch

from pipeline.errors import ConfigError
from pipeline.models import lenet5
from pipeline.network.block import build_block


def built(*args, **options):
    return [build_block(b, 0, i) for i, b in enumerate(lenet5.build(*args, **options))]


def outs(blocks, x):
    found = []
    for block in blocks:
        x = block(x)
        found.append(x)
    return found


def test_sizes_are_the_published_ones():
    blocks = built((1, 28, 28), 10)
    assert sum(p.numel() for block in blocks for p in block.parameters()) == 44426
    shapes = [tuple(out.shape[1:]) for out in outs(blocks, torch.randn(2, 1, 28, 28))]
    assert shapes == [(6, 12, 12), (16, 4, 4), (120,), (84,), (10,)]
    assert sum(p.numel() for block in built((1, 32, 32), 10) for p in block.parameters()) == 61706


def test_blocks_that_meet_in_front_of_their_units_make_the_same_network():
    x = torch.randn(3, 1, 28, 28)
    post, half = built((1, 28, 28), 10), built((1, 28, 28), 10, boundary="half")
    assert torch.equal(outs(post, x)[-1], outs(half, x)[-1])
    shapes = [tuple(out.shape[1:]) for out in outs(half, x)]
    assert shapes == [(6, 24, 24), (16, 8, 8), (120,), (84,), (10,)]
    assert any((out < 0).any() for out in outs(half, x)[:-1])


@pytest.mark.parametrize("shape", [(784,), (1, 15, 28), (1, 28, 15)])
def test_smaller_inputs_are_refused(shape):
    with pytest.raises(ConfigError, match=r"lenet5 reads images \(given: samples of shape .*at least 16 x 16"):
        lenet5.build(shape, 10)
    assert outs(built((2, 16, 16), 4), torch.randn(2, 2, 16, 16))[-1].shape == (2, 4)
