import hashlib

import pytest
import torch
from torch import nn

from pipeline.numerics.digest import combine, digest

STATE = {"weight": torch.arange(6.0).reshape(2, 3), "count": torch.tensor(3)}


def test_is_sha256_over_names_dtypes_shapes_and_bytes():
    expected = hashlib.sha256(
        b"weight torch.float32 (2, 3)\n" + STATE["weight"].numpy().tobytes()
        + b"count torch.int64 ()\n" + STATE["count"].numpy().tobytes()
    )  # fmt: skip
    assert digest(STATE) == expected.hexdigest()


@pytest.mark.parametrize(
    "other",
    [
        {"weight": STATE["weight"] + 1e-6, "count": STATE["count"]},
        {"weight": STATE["weight"].reshape(3, 2), "count": STATE["count"]},
        {"weight": STATE["weight"].view(torch.int32), "count": STATE["count"]},
        {"weights": STATE["weight"], "count": STATE["count"]},
        {"count": STATE["count"], "weight": STATE["weight"]},
        {"weight": STATE["weight"]},
    ],
    ids=["value", "shape", "dtype", "name", "order", "less"],
)
def test_what_changes_it(other):
    assert digest(other) != digest(STATE)


@pytest.mark.parametrize(
    "same",
    [STATE["weight"].clone().requires_grad_(), STATE["weight"].T.contiguous().T, nn.Parameter(STATE["weight"])],
    ids=["graph", "strides", "parameter"],
)
def test_what_does_not_change_it(same):
    assert digest({**STATE, "weight": same}) == digest(STATE)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.bool, torch.float16, torch.uint8, torch.complex64], ids=str)
def test_any_dtype(dtype):
    zeros, ones = torch.zeros(3).to(dtype), torch.ones(3).to(dtype)
    assert digest({"x": zeros}) != digest({"x": ones})
    assert digest({"x": zeros[:0]}) != digest({"x": zeros})


def test_combine_goes_by_block_order():
    assert combine(["a", "b"]) != combine(["b", "a"])
    assert combine(["ab"]) == hashlib.sha256(b"ab").hexdigest()
