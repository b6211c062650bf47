"""The pooling of the models' blocks against torch's own."""

import pytest
import torch
import torch.nn.functional as F

from pipeline.models._layers import MaxPool


@pytest.mark.parametrize("shape", [(3, 4, 6, 8), (2, 1, 2, 2), (2, 3, 5, 6), (2, 3, 4, 7)])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_the_values_are_those_of_torch(shape, memory_format):
    x = torch.randn(shape).contiguous(memory_format=memory_format)
    x[0, 0, 0, 0] = float("nan")
    torch.testing.assert_close(MaxPool()(x), F.max_pool2d(x, 2), rtol=0, atol=0, equal_nan=True)


def test_a_gradient_still_goes_to_the_largest_of_the_four():
    x = torch.randn(3, 4, 6, 8, requires_grad=True)
    MaxPool()(x).sum().backward()
    assert (x.grad != 0).sum() == 3 * 4 * 3 * 4
    with torch.no_grad():
        assert torch.equal(MaxPool()(x), F.max_pool2d(x, 2))
