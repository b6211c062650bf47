"""Labels that int64 has, and those that it has not."""

import re

import numpy as np
import pytest

from pipeline.data.int64 import in_int64
from pipeline.errors import ConfigError


def test_an_array_that_is_fit_is_not_copied():
    array = np.array([3, 0, -1])
    assert in_int64(array, "a.npz") is array


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.uint32, np.uint64, np.float64])
def test_others_are_converted(dtype):
    found = in_int64(np.asfortranarray(np.arange(6).reshape(2, 3).astype(dtype)), "a.npz")
    assert found.dtype == np.int64 and found.flags.c_contiguous and found.tolist() == [[0, 1, 2], [3, 4, 5]]


def test_the_ends_of_what_it_has():
    assert in_int64(np.array([2**63 - 1], np.uint64), "a").tolist() == [2**63 - 1]
    assert in_int64(np.array([-(2.0**63)]), "a").tolist() == [-(2**63)]


@pytest.mark.parametrize("labels", [
    np.array([0, 2**63 + 5, 1], np.uint64), np.array([0, 1e30, 2]), np.array([0, -1e30, 2]), np.array([0, 2.0**63, 1]),
])  # fmt: skip
@pytest.mark.filterwarnings("error")
def test_the_first_number_that_int64_has_not_is_told_as_it_was_given(labels):
    text = f"the labels of a.npz are no classes (given: {labels[1]} in sample 1, expected: whole numbers from 0"
    with pytest.raises(ConfigError, match=re.escape(text)):
        in_int64(labels, "a.npz")
