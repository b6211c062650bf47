import pytest
import torch

from pipeline.numerics.finite import all_finite, first_bad

BAD = [float("nan"), float("inf"), float("-inf")]


@pytest.mark.parametrize("value", BAD)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_one_bad_number_anywhere_is_seen(value, dtype, size):
    for position in (0, size // 2, size - 1):
        tensor = torch.ones(size, dtype=dtype)
        tensor[position] = value
        assert all_finite({"a": [torch.ones(3), tensor], "b": [torch.ones(2, 2)]}) == {"a": False, "b": True}
        assert first_bad(tensor) == (position, str(value))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_numbers_whose_sum_and_square_overflow_are_finite(dtype):
    most = torch.full((1000,), torch.finfo(dtype).max, dtype=dtype)
    assert all_finite({0: [most, -most]}) == {0: True}
    assert first_bad(most) is None


def test_what_cannot_be_infinite():
    whole = {"empty": [torch.empty(0)], "counts": [torch.tensor([2**62]), torch.tensor(True)], "none": []}
    assert all_finite(whole) == {"empty": True, "counts": True, "none": True}
    assert all_finite({}) == {} and first_bad(torch.tensor([1])) is None


@pytest.mark.parametrize("value", BAD)
def test_scalars_and_parameters(value):
    assert all_finite({0: [torch.tensor(value)], 1: [torch.nn.Parameter(torch.tensor([1.0, value]))]}) == {
        0: False, 1: False
    }  # fmt: skip


def test_the_first_in_the_order_of_memory():
    assert first_bad(torch.tensor([[1.0, 2.0], [float("inf"), float("nan")]])) == (2, "inf")
