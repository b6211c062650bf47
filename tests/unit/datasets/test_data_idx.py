"""MNIST, Fashion-MNIST and KMNIST from files of a few images, and the real MNIST where it is at hand."""

import os
import struct
from pathlib import Path

import pytest
import torch

from pipeline import registry
from pipeline.data.augment import Augment
from pipeline.errors import ConfigError

mnist, fashion_mnist, kmnist = (
    registry.load("pipeline.datasets", name, "data set") for name in ("mnist", "fashion_mnist", "kmnist")
)
KIN = [(mnist, "MNIST"), (fashion_mnist, "FashionMNIST"), (kmnist, "KMNIST")]


def idx(values):
    """An IDX file of bytes."""
    return bytes((0, 0, 8, values.dim())) + struct.pack(f">{values.dim()}I", *values.shape) + bytes(values.flatten())


def write(root, folder="MNIST", num_train=5, num_test=3):
    """Images of 6x4 pixels; returns what was written."""
    raw = root / folder / "raw"
    raw.mkdir(parents=True)
    written = []
    for split, count in (("train", num_train), ("t10k", num_test)):
        x = torch.randint(0, 256, (count, 6, 4), dtype=torch.uint8)
        y = torch.randint(0, 10, (count,), dtype=torch.uint8)
        (raw / f"{split}-images-idx3-ubyte").write_bytes(idx(x))
        (raw / f"{split}-labels-idx1-ubyte").write_bytes(idx(y))
        written.append((x, y))
    return written


@pytest.mark.parametrize(("build", "folder"), KIN)
def test_images_and_labels_are_read(tmp_path, build, folder):
    written = write(tmp_path, folder)
    data = build(tmp_path, download=False)
    assert (data.spec.input_shape, data.spec.num_train, data.spec.num_test) == ((1, 6, 4), 5, 3)
    for split, (x, y) in zip(data.load(), written):
        assert torch.equal(split.x, x.unsqueeze(1))
        assert torch.equal(split.y, y.long())


def test_options_reach_the_augmentation(tmp_path):
    write(tmp_path)
    assert mnist(tmp_path, crop_padding=2, flip=True, cutout=14).augment == Augment(2, True, 14)


@pytest.mark.parametrize(("build", "folder"), KIN)
def test_the_first_training_images_alone(tmp_path, build, folder):
    (x, y), _ = write(tmp_path, folder)
    data = build(tmp_path, train_samples=2)
    train, test = data.load()
    assert data.spec.num_train == 2 and len(test.y) == 3
    assert torch.equal(train.x, x[:2].unsqueeze(1)) and torch.equal(train.y, y[:2].long())
    assert len(build(tmp_path, train_samples=5).load()[0].y) == 5


@pytest.mark.parametrize("given", [-1, 6])
def test_more_training_images_than_there_are_is_refused(tmp_path, given):
    write(tmp_path)
    with pytest.raises(ConfigError, match=rf"given: dataset.train_samples = {given}, expected: 1 to 5, or 0 for all"):
        mnist(tmp_path, train_samples=given)


@pytest.mark.parametrize(("build", "folder"), KIN)
def test_pixels_stay_as_they_are_without_normalisation(tmp_path, build, folder):
    write(tmp_path, folder)
    assert build(tmp_path).normalisation is not None
    assert build(tmp_path, normalise=False).normalisation is None


@pytest.mark.parametrize(("build", "folder"), KIN)
def test_missing_files_are_named(tmp_path, build, folder):
    write(tmp_path, folder)
    (tmp_path / folder / "raw" / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(ConfigError, match=f"expected: {folder}/raw/t10k-labels-idx1-ubyte in"):
        build(tmp_path, download=False)


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", bytes((0, 0, 8, 3, 0, 0))])
def test_a_file_of_another_kind_is_refused_at_once(tmp_path, content):
    write(tmp_path)
    path = tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=rf"{path} is not an IDX file of 3 dimensions .* Delete "):
        mnist(tmp_path, download=False)


def test_a_file_that_was_cut_short_is_refused_when_loaded(tmp_path):
    write(tmp_path)
    path = tmp_path / "MNIST" / "raw" / "t10k-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ConfigError, match="cannot read the data set mnist .*Delete .*raw and let it be"):
        mnist(tmp_path, download=False).load()


def test_the_real_mnist():
    root = Path(os.environ.get("ONWARD_DATA", ""))
    if not os.environ.get("ONWARD_DATA") or not (root / "MNIST").is_dir():
        pytest.skip("needs MNIST under ONWARD_DATA")
    data = mnist(root, download=False)
    train, test = data.load()
    assert train.x.shape == (60000, 1, 28, 28) and test.x.shape == (10000, 1, 28, 28)
    assert train.y[:8].tolist() == [5, 0, 4, 1, 9, 2, 1, 3] and test.y[:4].tolist() == [7, 2, 1, 0]
    pixels = train.x.double() / 255
    (mean,), (std,) = data.normalisation.mean, data.normalisation.std
    assert abs(pixels.mean() - mean) < 1e-4 and abs(pixels.std() - std) < 1e-4
