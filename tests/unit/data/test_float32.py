"""Numbers that float32 has, and those that it has not."""

import re

import numpy as np
import pytest

from pipeline.data.float32 import in_float32
from pipeline.errors import ConfigError


def at(place):
    return f"row {place[0]}, column {place[1]}"


def test_an_array_that_is_fit_is_not_copied():
    array = np.ones((2, 3), np.float32)
    assert in_float32(array, "it has", at) is array


@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.int64])
def test_others_are_rounded(dtype):
    found = in_float32(np.asfortranarray(np.arange(6).reshape(2, 3).astype(dtype)), "it has", at)
    assert found.dtype == np.float32 and found.flags.c_contiguous and found.tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -1e39])
@pytest.mark.filterwarnings("error")
def test_the_first_number_that_float32_has_not_is_told_as_it_was_given(bad):
    array = np.zeros((2, 3))
    array[1, 1] = array[1, 2] = bad
    text = f"it has a number that is nan, infinite or beyond float32 (given: {bad} in row 1, column 1, expected: "
    with pytest.raises(ConfigError, match=re.escape(text) + ".* Leave that row out"):
        in_float32(array, "it has", at, "row")
