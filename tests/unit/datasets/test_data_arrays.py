import re

import numpy as np
import pytest
import torch

from pipeline.data.batches import Batches
from pipeline.data.task import Labels
from pipeline.datasets import arrays
from pipeline.errors import ConfigError


def save(tmp_path, **changed):
    """Six training and three test samples, with some arrays changed; None leaves one out."""
    rng = np.random.default_rng(0)
    found = {
        "x_train": rng.normal(size=(6, 4)), "y_train": rng.normal(size=(6, 2)),
        "x_test": rng.normal(size=(3, 4)), "y_test": rng.normal(size=(3, 2)), **changed,
    }  # fmt: skip
    np.savez(tmp_path / "a.npz", **{k: v for k, v in found.items() if v is not None})
    return found


@pytest.mark.parametrize(
    ("label_shape", "positions", "num_outputs"), [((2,), (), 2), ((), (), 1), ((5, 2), (5,), 2), ((3, 5, 1), (3, 5), 1)]
)
def test_numbers_of_any_shape(tmp_path, label_shape, positions, num_outputs):
    y = {"y_train": np.ones((6, *label_shape)), "y_test": np.zeros((3, *label_shape), np.float32)}
    given = save(tmp_path, x_train=np.arange(24).reshape(6, 4), **y)
    data = arrays.build(tmp_path, path="a.npz")
    task = data.spec.task
    assert (task.labels, task.positions, task.num_outputs) == (Labels.NUMBERS, positions, num_outputs)
    train, test = data.load()
    assert train.x.dtype is test.y.dtype is torch.float32
    assert train.x.tolist() == given["x_train"].tolist() and train.y.shape == (6, *task.out_shape)
    assert (data.spec.num_train, data.spec.num_test, data.spec.input_shape) == (6, 3, (4,))


def test_pixels_and_a_validation_set(tmp_path):
    pixels = np.random.default_rng(1).integers(0, 256, size=(6, 1, 2, 2), dtype=np.uint8)
    given = save(tmp_path, x_train=pixels, x_test=pixels[:3], x_validation=pixels[:2], y_validation=np.ones((2, 2)))
    data = arrays.build(tmp_path, path="a.npz")
    train, validation, test = data.load_all()
    assert data.spec.num_validation == 2 and validation.y.tolist() == given["y_validation"].tolist()
    assert train.x.dtype is validation.x.dtype is test.x.dtype is torch.uint8
    batches = Batches(test, dataset=data, batch_size=3, seed=0, device="cpu", train=False)
    assert torch.equal(batches.batch(0, 0)[0], torch.from_numpy(pixels[:3]).float() * (1 / 255))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"x_train": np.ones((6, 4), np.uint8)}, r"differ in scale \(given: x_train of uint8, x_test of float64"),
        ({"x_validation": np.ones((2, 4))}, r"lacks an array .* Add y_validation"),
        ({"y_test": None}, r"lacks an array \(given: x_train, y_train, x_test, expected: .*\)\. Add y_test\."),
        ({"y_train": np.ones((5, 2))}, r"train arrays of .* do not fit together \(given: x_train \(6, 4\), y_train"),
        ({"x_test": np.ones(3)}, r"test arrays of .* do not fit together"),
        ({"y_test": np.ones((3, 1))}, r"differ in shape \(given: y_train \(6, 2\), y_test \(3, 1\), expected"),
        ({"y_train": np.ones((6, 2), int)}, r"y_train of .* has another dtype \(given: int64, expected: floating"),
        ({"y_train": np.ones((6, 0)), "y_test": np.ones((3, 0))}, r"train arrays of .* y_train \(6, 0\), expected: "),
        ({"x_test": np.ones((3, 0))}, r"test arrays of .* do not fit together"),
        ({"x_train": np.full((6, 4), "a")}, r"x_train of .* has another dtype \(given: <U1"),
    ],
)
def test_arrays_that_do_not_do(tmp_path, changed, message):
    save(tmp_path, **changed)
    with pytest.raises(ConfigError, match=message):
        arrays.build(tmp_path, path="a.npz")


@pytest.mark.parametrize(
    ("bad", "given"), [(np.nan, "nan"), (-np.inf, "-inf"), (1e300, "1e+300")], ids=["nan", "infinite", "beyond"]
)
@pytest.mark.filterwarnings("error")
def test_numbers_that_float32_does_not_have(tmp_path, bad, given):
    save(tmp_path, y_test=np.array([[1.0, 2.0], [bad, 1.0], [0.0, 0.0]]))
    with pytest.raises(ConfigError, match=rf"y_test of .*a\.npz has a number that is nan, infinite or beyond float32 "
                                          rf"\(given: {re.escape(given)} in sample 1, expected: at most 3\.4e38\)\. "
                                          r"Leave that sample out"):
        arrays.build(tmp_path, path="a.npz").load()


def test_no_such_file(tmp_path):
    with pytest.raises(ConfigError, match=r"there are no arrays \(expected: a file of numpy\.savez at .*a\.npz\)"):
        arrays.build(tmp_path, path="a.npz")
    (tmp_path / "a.npz").write_bytes(b"nothing of the kind")
    with pytest.raises(ConfigError, match=r"a\.npz is not a file of numpy\.savez \(.*\)\. Write it anew"):
        arrays.build(tmp_path, path="a.npz")


@pytest.mark.parametrize("place", range(58, 200, 7))
def test_a_damaged_compressed_file(tmp_path, place):
    """Whatever zip, zlib or numpy stumble over: one error, whether in the headers or in the numbers behind them."""
    file = tmp_path / "a.npz"
    np.savez_compressed(file, **save(tmp_path))
    content = bytearray(file.read_bytes())
    content[place : place + 4] = bytes(byte ^ 0xFF for byte in content[place : place + 4])
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=r"(Write|write) .*anew|lacks an array|do not fit together|another dtype"):
        arrays.build(tmp_path, path="a.npz").load()
