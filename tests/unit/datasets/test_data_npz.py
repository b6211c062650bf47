import numpy as np
import pytest
import torch

from pipeline.data.task import Classification, Labels
from pipeline.datasets import npz
from pipeline.errors import ConfigError

RNG = np.random.default_rng(0)


def save(tmp_path, **changed):
    """Six training and three test samples, with some arrays changed; None leaves one out."""
    arrays = {
        "x_train": RNG.normal(size=(6, 4)), "y_train": np.array([0, 1, 2, 0, 1, 2]),
        "x_test": RNG.normal(size=(3, 4)), "y_test": np.array([2, 1, 0], np.uint8), **changed,
    }  # fmt: skip
    np.savez(tmp_path / "a.npz", **{k: v for k, v in arrays.items() if v is not None})
    return arrays


def test_a_class_for_each_sample(tmp_path):
    arrays = save(tmp_path)
    data = npz.build(tmp_path, path="a.npz")
    train, validation, test = data.load_all()
    assert isinstance(data.spec.task, Classification) and data.spec.task.num_outputs == 3 and validation is None
    assert train.x.dtype is torch.float32 and test.y.dtype is torch.int64 and test.y.tolist() == [2, 1, 0]
    assert np.allclose(train.x.numpy(), arrays["x_train"])


def test_pixels_positions_and_a_validation_set(tmp_path):
    pixels = RNG.integers(0, 256, size=(6, 1, 2, 2), dtype=np.uint8)
    places = np.arange(24).reshape(6, 2, 2) % 5
    save(tmp_path, x_train=pixels, x_test=pixels[:3], x_validation=pixels[:2],
         y_train=places, y_test=places[:3], y_validation=places[:2])  # fmt: skip
    data = npz.build(tmp_path, path="a.npz", )
    splits = data.load_all()
    assert data.spec.num_validation == 2 and splits.validation.x.dtype is torch.uint8
    assert data.spec.task.labels is Labels.CLASSES and splits.train.y.dtype is data.spec.task.label_dtype


@pytest.mark.parametrize(("changed", "message"), [
    ({"y_train": np.ones(6)}, r"y_train of .* another dtype \(given: float64, .* dataset\.name = \"arrays\""),
    ({"x_train": np.full((6, 4), "a")}, r"x_train of .* another dtype \(given: <U1"),
    ({"y_test": np.array([0, 1])}, r"test arrays of .* do not fit together"),
    ({"y_test": np.array([0, -1, 1])}, r"labels of .* are no classes \(given: whole numbers from -1 to 2"),
    ({"y_test": np.array([0, 2**63 + 5, 1], np.uint64)}, r"no classes \(given: 9223372036854775813 in sample 1"),
    ({"x_test": np.ones((3, 4), np.uint8)}, r"differ in scale \(given: x_train of float64, x_test of uint8"),
    ({"x_train": np.ones((6, 4), np.uint8)}, r"differ in scale \(given: x_train of uint8, x_test of float64"),
    ({"x_validation": np.ones((2, 4), np.uint8), "y_validation": np.ones(2, int)}, r"scale .* x_validation of uint8"),
    ({"y_test": None}, r"lacks an array .* Add y_test"),
    ({"x_validation": np.ones((2, 4))}, r"lacks an array .* Add y_validation"),
    ({"x_validation": np.ones((2, 3)), "y_validation": np.ones(2, int)}, r"differ in shape .* x_validation \(2, 3\)"),
])  # fmt: skip
def test_arrays_that_do_not_do(tmp_path, changed, message):
    save(tmp_path, **changed)
    with pytest.raises(ConfigError, match=message):
        npz.build(tmp_path, path="a.npz")


def test_numbers_that_float32_does_not_have(tmp_path):
    save(tmp_path, x_test=np.array([[0.0] * 4, [0, np.nan, 0, 0], [0.0] * 4]))
    with pytest.raises(ConfigError, match=r"x_test of .* nan, infinite or beyond float32 \(given: nan in sample 1"):
        npz.build(tmp_path, path="a.npz").load()


@pytest.mark.parametrize("place", range(40, 1200, 61))
def test_a_damaged_file(tmp_path, place):
    save(tmp_path)
    file = tmp_path / "a.npz"
    content = bytearray(file.read_bytes())
    content[place % len(content)] ^= 0xFF
    file.write_bytes(content)
    try:
        npz.build(tmp_path, path="a.npz").load()
    except ConfigError as error:
        assert str(file) in str(error)
