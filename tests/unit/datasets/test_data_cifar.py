"""CIFAR-10 and CIFAR-100 from pickles of a few images, and CIFAR-10 from pictures."""

import os
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.data.augment import Augment
from pipeline.datasets import cifar10, cifar100
from pipeline.errors import ConfigError

CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


@pytest.fixture(autouse=True)
def short(monkeypatch):
    """Files of two images, five for training where there are five."""
    monkeypatch.setattr(cifar10, "_LAYOUT", replace(cifar10._LAYOUT, num_train=10, num_test=2))
    monkeypatch.setattr(cifar100, "_LAYOUT", replace(cifar100._LAYOUT, num_train=2, num_test=2))


def write(root, layout):
    """Returns pixels (files, 2, 3, 32, 32) and labels (files, 2)."""
    generator = np.random.default_rng(0)
    names = layout.train + layout.test
    pixels = generator.integers(0, 256, (len(names), 2, 3, 32, 32), dtype=np.uint8)
    labels = generator.integers(0, layout.num_classes, (len(names), 2))
    (root / layout.folder).mkdir(parents=True)
    for name, x, y in zip(names, pixels, labels):
        entry = {"data": x.reshape(2, 3072), layout.label_key: y.tolist(), "coarse_labels": [0, 0]}
        (root / layout.folder / name).write_bytes(pickle.dumps(entry, protocol=2))
    return torch.from_numpy(pixels), torch.from_numpy(labels)


def write_pictures(root):
    """One picture of one colour for each class and split."""
    for split in ("train", "test"):
        for label, name in enumerate(CLASSES):
            folder = root / "cifar10-jpeg" / split / name
            folder.mkdir(parents=True)
            Image.new("RGB", (32, 32), (20 * label, 10, 200)).save(folder / "0.jpg")


@pytest.mark.parametrize("module", [cifar10, cifar100])
def test_images_and_labels_are_read_in_the_order_of_the_files(tmp_path, module):
    pixels, labels = write(tmp_path, module._LAYOUT)
    data = module.build(tmp_path, download=False)
    train, test = data.load()
    assert data.spec.task.num_outputs == module._LAYOUT.num_classes
    assert torch.equal(train.x, pixels[:-1].flatten(0, 1)) and torch.equal(test.x, pixels[-1])
    assert torch.equal(train.y, labels[:-1].flatten()) and torch.equal(test.y, labels[-1])


@pytest.mark.parametrize("module", [cifar10, cifar100])
def test_options_reach_the_augmentation(tmp_path, module):
    write(tmp_path, module._LAYOUT)
    assert module.build(tmp_path, augment=Augment(4, True, 16)).augment == Augment(4, True, 16)


@pytest.mark.parametrize("module", [cifar10, cifar100])
def test_a_missing_file_is_named(tmp_path, module):
    write(tmp_path, module._LAYOUT)
    (tmp_path / module._LAYOUT.folder / module._LAYOUT.test[0]).unlink()
    with pytest.raises(ConfigError, match=f"expected: {module._LAYOUT.folder}/{module._LAYOUT.test[0]} in"):
        module.build(tmp_path, download=False)


@pytest.mark.parametrize(
    "content",
    [b"", b"<html>", pickle.dumps({"labels": [1]}), pickle.dumps([1]), pickle.dumps({"data": None, "labels": [1]}),
     pickle.dumps({"data": np.zeros((2, 3072), np.uint8), "labels": [None]}, 2),
     pickle.dumps({"data": np.zeros((2, 3072), np.uint8), "labels": [2**70]}, 2)],
)  # fmt: skip
def test_a_file_of_another_kind_is_refused(tmp_path, content):
    write(tmp_path, cifar10._LAYOUT)
    (tmp_path / "cifar-10-batches-py" / "data_batch_3").write_bytes(content)
    with pytest.raises(ConfigError, match="cannot read the data set cifar10 .* Delete .*cifar-10-batches-py"):
        cifar10.build(tmp_path, download=False).load()


def test_a_planted_command_is_not_run(tmp_path):
    class Planted:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'run'}",)

    write(tmp_path, cifar10._LAYOUT)
    planted = pickle.dumps({"data": Planted(), "labels": [0, 0]})
    (tmp_path / "cifar-10-batches-py" / "data_batch_3").write_bytes(planted)
    with pytest.raises(ConfigError, match="cannot read the data set cifar10 .*only plain data is read") as caught:
        cifar10.build(tmp_path, download=False).load()
    assert "\n" not in str(caught.value) and not (tmp_path / "run").exists()


def test_too_few_images_are_refused(tmp_path, monkeypatch):
    write(tmp_path, cifar10._LAYOUT)
    monkeypatch.setattr(cifar10, "_LAYOUT", replace(cifar10._LAYOUT, num_train=50_000))
    with pytest.raises(ConfigError, match="the training samples of cifar10 have other shapes than expected"):
        cifar10.build(tmp_path, download=False).load()


def test_pictures_stand_in_for_missing_originals(tmp_path):
    write_pictures(tmp_path)
    data = cifar10.build(tmp_path)
    train, _ = data.load()
    assert (data.spec.num_train, data.spec.task.num_outputs) == (10, 10)
    assert train.y.tolist() == list(range(10))
    # One colour survives the encoding to within rounding.
    expected = torch.tensor([[20 * label, 10, 200] for label in range(10)])
    assert (train.x.float().mean((2, 3)) - expected).abs().max() < 3


def test_originals_are_preferred_to_pictures(tmp_path):
    write_pictures(tmp_path)
    pixels, _ = write(tmp_path, cifar10._LAYOUT)
    assert torch.equal(cifar10.build(tmp_path).load()[1].x, pixels[-1])
    assert cifar10.build(tmp_path, source="jpeg").load()[1].y.tolist() == list(range(10))


def test_originals_can_be_insisted_on(tmp_path):
    write_pictures(tmp_path)
    with pytest.raises(ConfigError, match="the data set cifar10 is not there"):
        cifar10.build(tmp_path, source="original", download=False)


def test_missing_pictures_are_explained(tmp_path):
    with pytest.raises(ConfigError, match=f"the JPEG copy of cifar10 is not there .expected: {tmp_path}/cifar10-jpeg"):
        cifar10.build(tmp_path, source="jpeg")


def test_the_real_pictures_are_complete():
    root = Path(os.environ.get("ONWARD_DATA", ""))
    if not os.environ.get("ONWARD_DATA") or not (root / "cifar10-jpeg").is_dir():
        pytest.skip("needs cifar10-jpeg under ONWARD_DATA")
    spec = cifar10.build(root, source="jpeg").spec
    assert (spec.input_shape, spec.num_train, spec.num_test) == ((3, 32, 32), 50_000, 10_000)
