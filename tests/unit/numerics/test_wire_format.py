"""Wire formats to the bit: each against its definition, number by number, and on processors of other capabilities."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.numerics import wire_format
from pipeline.numerics.wire_format import decode, encode, label_dtype, pack_feedback, rounded, unpack_feedback

ROOT = Path(__file__).resolve().parents[3]
WIRES = ["bfloat16", "float16", "int8"]
MOST = float(torch.finfo(torch.float32).max)


def numbers():
    """Rows of all magnitudes that float32 has: subnormal and normal ones, ties, zeros of both signs, the ends."""
    generator = torch.Generator().manual_seed(0)
    bits = torch.randint(0, 2**23, (300, 33), generator=generator, dtype=torch.int32)  # drawn alike on every processor
    sign = torch.randint(0, 2, (300, 33), generator=generator, dtype=torch.int32) * -(2**31)
    exponent = torch.randint(-3, 1, (300, 33), generator=generator, dtype=torch.int32)
    exponent = (exponent + torch.arange(300, dtype=torch.int32)[:, None]).clamp(0, 254) << 23
    rows = (bits | exponent | sign).view(torch.float32)
    special = torch.zeros(8, 33)
    special[0, :4] = torch.tensor([MOST, -MOST, 1.0, -0.0])
    special[1, :3] = torch.tensor([1e-45, -1e-45, 0.0])
    special[2, :5] = torch.tensor([127.0, 0.5, 1.5, -0.5, 2.5])
    special[3, 0] = -0.0
    special[4] = torch.linspace(-1, 1, 33)
    special[5, :2] = torch.tensor([65504.0, 65520.0])
    special[6, :3] = torch.tensor([2.0**-126, 2.0**-127, 2.0**-149])
    special[7, :3] = torch.tensor([1.0 + 2.0**-8, 1.0 + 3 * 2.0**-8, 1.0 + 2.0**-8 + 2.0**-20])
    return torch.cat([rows, special])


def drawn():
    """Many rows, for whose largest numbers a product with 1 / 127 is not always the quotient."""
    return torch.randn(5000, 9, generator=torch.Generator().manual_seed(3))


def by_definition(x):
    """int8 as the docstring has it, by numpy, a row at a time."""
    outs = []
    for row in x.numpy():
        scale = np.abs(row).max() / np.float32(127)
        scale = np.clip(scale, np.float32(2.0**-100), np.float32(wire_format._LARGEST_SCALE))
        outs.append(np.rint(row / scale).astype(np.int8).astype(np.float32) * scale)
    return torch.from_numpy(np.stack(outs))


def test_int8_is_its_definition_and_keeps_what_is_finite():
    x = numbers()
    found = rounded(x, "int8")
    assert torch.equal(found, by_definition(x)) and bool(found.isfinite().all())
    assert not found[found == 0].signbit().any(), "zeros are +0"
    error = (found - x).abs().double()
    assert bool((error <= x.abs().amax(1, keepdim=True).double() / 127 * 0.5000002 + 2.0**-100).all())


def test_the_scale_is_a_quotient():
    largest = drawn().abs().amax(1, keepdim=True)
    assert torch.equal(encode(drawn(), "int8")[1], torch.from_numpy(largest.numpy() / np.float32(127)))
    assert not torch.equal(largest * (np.float32(1) / np.float32(127)), encode(drawn(), "int8")[1])


def test_the_largest_scale_is_the_last_whose_codes_are_finite():
    largest = np.float32(wire_format._LARGEST_SCALE)
    assert float(largest) == wire_format._LARGEST_SCALE
    with np.errstate(over="ignore"):
        above = np.nextafter(largest, np.float32(np.inf)) * np.float32(127)
    assert np.isfinite(largest * np.float32(127)) and np.isinf(above)


def nearest(x, bits, least_exponent, most):
    """The nearest number with so many bits, ties to even, in exact float64 arithmetic; infinite beyond ``most``."""
    x = x.double()
    exponent = torch.frexp(x)[1].clamp(min=least_exponent)
    unit = torch.ldexp(torch.ones_like(x), exponent - bits)
    found = (x / unit).round() * unit
    return torch.where(found.abs() > most, found.sign() * float("inf"), found)


@pytest.mark.parametrize(
    ("wire", "bits", "least_exponent", "most"), [("bfloat16", 8, -125, 3.3895314e38), ("float16", 11, -13, 65504.0)]
)
def test_the_floats_are_the_nearest_ones(wire, bits, least_exponent, most):
    x = numbers()
    found = rounded(x, wire)
    assert found.dtype is torch.float32 and torch.equal(found.double(), nearest(x, bits, least_exponent, most))
    assert torch.equal(found.signbit(), x.signbit()), "zeros keep their sign"


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_arrives_as_such_and_spoils_no_other_sample(wire, bad):
    x = torch.rand(4, 3, 2, 2)
    x[1, 2, 0, 1] = bad
    found = rounded(x, wire)
    assert not bool(found[1].isfinite().all()) and bool(found[[0, 2, 3]].isfinite().all())
    if wire == "int8":
        assert bool(found[1].isnan().all())


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("shape", [(5, 7), (5, 3, 4, 4), (0, 7)])
def test_a_sample_becomes_the_same_in_any_batch_and_memory_format(wire, shape):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    whole = rounded(x, wire)
    assert whole.shape == shape
    assert torch.equal(whole, torch.cat([rounded(x[k : k + 1], wire) for k in range(len(x))] or [whole]))
    if len(shape) == 4:
        last = rounded(x.contiguous(memory_format=torch.channels_last), wire)
        assert torch.equal(last, whole) and last.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("wire", WIRES)
def test_where_samples_have_positions_what_one_becomes_does_not_depend_on_the_others(wire):
    x = torch.randn(5, 2, 3, 7, generator=torch.Generator().manual_seed(1)) * torch.arange(1.0, 4.0).view(3, 1)
    found = rounded(x, wire, (2, 3))
    assert torch.equal(found, rounded(x.view(30, 7), wire).view(x.shape))
    assert torch.equal(found, decode(encode(x, wire, (2, 3)), wire))
    sent = sum(part.nbytes for part in encode(x, wire, (2, 3)))
    assert sent == 5 * wire_format.sample_bytes((2, 3, 7), torch.float32, wire, (2, 3))


@pytest.mark.parametrize("shape", [(2, 3), (3, 2, 7), (42,), (2,)])
def test_an_output_without_features_at_each_position_has_a_scale_for_each_sample(shape):
    x = torch.randn(5, *shape, generator=torch.Generator().manual_seed(1))
    assert torch.equal(rounded(x, "int8", (2, 3)), rounded(x, "int8"))
    assert wire_format.sample_bytes(shape, x.dtype, "int8", (2, 3)) == x[0].numel() + 4


@pytest.mark.parametrize("wire", WIRES)
def test_bytes_are_those_that_are_counted_for_an_edge(wire):
    x = torch.randn(6, 3, 4)
    sent = sum(part.nbytes for part in encode(x, wire))
    assert sent == 6 * wire_format.sample_bytes((3, 4), torch.float32, wire)
    assert wire_format.sample_bytes((3, 4), torch.float64, "same") == 96


@pytest.mark.parametrize("wire", WIRES)
def test_bfloat16_activations_are_rounded_as_the_same_numbers_in_float32(wire):
    x = torch.randn(6, 9).bfloat16()
    found = rounded(x, wire)
    assert found.dtype is torch.float32 and torch.equal(found, rounded(x.float(), wire))


@pytest.mark.parametrize("wire", WIRES)
def test_a_boundary_without_a_link_gives_the_bits_of_one_with_a_link(wire):
    x = numbers()
    assert torch.equal(rounded(x, wire).view(torch.int32), decode(encode(x, wire), wire).view(torch.int32))
    x[3, 4], x[5, 6] = float("nan"), float("inf")
    assert torch.equal(rounded(x, wire).isnan(), decode(encode(x, wire), wire).isnan())


@pytest.mark.parametrize("wire", WIRES)
def test_decoding_shares_nothing_with_what_came(wire):
    parts = encode(torch.ones(2, 2), wire)
    decode(parts, wire).fill_(5.0)
    assert torch.equal(decode(parts, wire), torch.ones(2, 2))


@pytest.mark.parametrize("wire", WIRES)
def test_feedback_is_rounded_where_it_has_a_number_for_each_feature(wire):
    given = (torch.randn(4, 5), torch.randn(4), torch.arange(4), torch.randn(4, 2, 2), torch.arange(8).view(4, 2))
    found = unpack_feedback(pack_feedback(given, wire), wire)
    assert len(found) == 5
    for index in (0, 3):
        assert torch.equal(found[index], rounded(given[index], wire))
    for index in (1, 2, 4):
        assert torch.equal(found[index], given[index]) and found[index].dtype is given[index].dtype


@pytest.mark.parametrize(
    ("classes", "dtype"),
    [(2, "uint8"), (256, "uint8"), (257, "int16"), (2**15, "int16"), (2**15 + 1, "int32"), (2**31, "int32"),
     (2**31 + 1, "int64")],
)  # fmt: skip
def test_labels_travel_in_the_narrowest_integers_that_hold_them(classes, dtype):
    assert label_dtype(classes) is getattr(torch, dtype)
    assert int(torch.tensor(classes - 1).to(label_dtype(classes))) == classes - 1


def digests():
    """SHA-256 of these numbers, rounded in every format."""
    found = [rounded(numbers(), wire).numpy().tobytes() for wire in WIRES]
    return " ".join(hashlib.sha256(data).hexdigest() for data in found)


@pytest.mark.parametrize("capability", ["default", "avx2", "avx512"])
def test_every_processor_gives_the_same_bits(capability):
    """torch picks its kernels by what the processor can; here it is told to pick others."""
    code = "from tests.unit.numerics.test_wire_format import digests; print(digests())"
    environment = {**os.environ, "ATEN_CPU_CAPABILITY": capability, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.stdout.strip() == digests(), done.stderr
