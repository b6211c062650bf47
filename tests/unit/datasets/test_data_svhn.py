"""SVHN from MATLAB files of a few images."""

import numpy as np
import pytest
import torch
from scipy.io import savemat

from pipeline.data.augment import Augment
from pipeline.datasets import svhn
from pipeline.errors import ConfigError


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(svhn, "_NUM_IMAGES", {"train": 4, "extra": 3, "test": 2})


def write(root, split, labels):
    """Returns pixels (images, 3, 32, 32)."""
    pixels = np.random.default_rng(len(labels)).integers(0, 256, (32, 32, 3, len(labels)), dtype=np.uint8)
    contents = {"X": pixels, "y": np.array(labels, dtype=np.uint8)[:, None]}
    savemat(root / f"{split}_32x32.mat", contents, do_compression=True)
    return torch.from_numpy(pixels).permute(3, 2, 0, 1)


def test_images_are_turned_and_ten_becomes_zero(tmp_path):
    train, test = write(tmp_path, "train", [1, 10, 9, 3]), write(tmp_path, "test", [10, 2])
    data = svhn.build(tmp_path, download=False)
    assert (data.spec.input_shape, data.spec.num_train, data.spec.num_test) == ((3, 32, 32), 4, 2)
    loaded_train, loaded_test = data.load()
    assert torch.equal(loaded_train.x, train) and torch.equal(loaded_test.x, test)
    assert loaded_train.y.tolist() == [1, 0, 9, 3] and loaded_test.y.tolist() == [0, 2]


def test_the_extra_images_follow_the_others(tmp_path):
    train, extra = write(tmp_path, "train", [1, 2, 3, 4]), write(tmp_path, "extra", [5, 6, 7])
    write(tmp_path, "test", [8, 9])
    data = svhn.build(tmp_path, extra=True, augment=Augment(4, True, 16), download=False)
    assert data.spec.num_train == 7 and data.augment == Augment(4, True, 16)
    loaded, _ = data.load()
    assert torch.equal(loaded.x, torch.cat((train, extra)))
    assert loaded.y.tolist() == [1, 2, 3, 4, 5, 6, 7]


def test_missing_files_are_named(tmp_path):
    write(tmp_path, "train", [1])
    with pytest.raises(ConfigError, match="expected: extra_32x32.mat, test_32x32.mat in"):
        svhn.build(tmp_path, extra=True, download=False)


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>" * 20])
def test_a_file_of_another_kind_is_refused(tmp_path, content):
    write(tmp_path, "train", [1, 2, 3, 4])
    (tmp_path / "test_32x32.mat").write_bytes(content)
    with pytest.raises(ConfigError, match=r"test_32x32.mat is not a file of SVHN .* Delete .*test_32x32.mat"):
        svhn.build(tmp_path, download=False).load()


def test_a_damaged_file_is_refused(tmp_path):
    write(tmp_path, "train", [1, 2, 3, 4])
    path = tmp_path / "train_32x32.mat"
    path.write_bytes(path.read_bytes()[:4000])
    write(tmp_path, "test", [1, 2])
    with pytest.raises(ConfigError, match=r"train_32x32.mat is not a file of SVHN .* Delete .*train_32x32.mat"):
        svhn.build(tmp_path, download=False).load()


def test_a_file_without_images_is_refused(tmp_path):
    savemat(tmp_path / "train_32x32.mat", {"y": np.zeros(3)})
    write(tmp_path, "test", [1, 2])
    with pytest.raises(ConfigError, match=r"train_32x32.mat is not a file of SVHN \(given: KeyError: 'X', expected:"):
        svhn.build(tmp_path, download=False).load()


def test_too_few_images_are_refused(tmp_path):
    write(tmp_path, "train", [1, 2, 3])
    write(tmp_path, "test", [1, 2])
    with pytest.raises(ConfigError, match="the training samples of svhn have other shapes than expected"):
        svhn.build(tmp_path, download=False).load()
