"""STL-10 from files of a few images."""

import numpy as np
import pytest
import torch

from pipeline.data.augment import Augment
from pipeline.datasets import stl10
from pipeline.errors import ConfigError


def write(root, train_labels=(1, 10, 4), test_labels=(2, 3)):
    """Returns the pixels (images, 3, 96, 96) of both splits."""
    folder = root / "stl10_binary"
    folder.mkdir()
    written = []
    for split, labels in (("train", train_labels), ("test", test_labels)):
        pixels = np.random.default_rng(len(labels)).integers(0, 256, (len(labels), 3, 96, 96), dtype=np.uint8)
        (folder / f"{split}_X.bin").write_bytes(pixels.transpose(0, 1, 3, 2).tobytes())
        (folder / f"{split}_y.bin").write_bytes(bytes(labels))
        written.append(torch.from_numpy(pixels))
    return written


def test_columns_become_rows_and_classes_begin_at_zero(tmp_path):
    train, test = write(tmp_path)
    data = stl10.build(tmp_path, augment=Augment(cutout=48), download=False)
    assert (data.spec.input_shape, data.spec.num_train, data.spec.num_test) == ((3, 96, 96), 3, 2)
    assert data.augment == Augment(cutout=48)
    loaded_train, loaded_test = data.load()
    assert torch.equal(loaded_train.x, train) and torch.equal(loaded_test.x, test)
    assert loaded_train.y.tolist() == [0, 9, 3] and loaded_test.y.tolist() == [1, 2]


def test_missing_files_are_named(tmp_path):
    write(tmp_path)
    (tmp_path / "stl10_binary" / "test_y.bin").unlink()
    with pytest.raises(ConfigError, match="expected: stl10_binary/test_y.bin in"):
        stl10.build(tmp_path, download=False)


def test_a_file_that_was_cut_short_is_refused_when_loaded(tmp_path):
    write(tmp_path)
    path = tmp_path / "stl10_binary" / "train_X.bin"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ConfigError, match="cannot read the data set stl10 .* Delete .*stl10_binary"):
        stl10.build(tmp_path, download=False).load()


def test_an_unlabelled_image_is_refused(tmp_path):
    write(tmp_path, test_labels=(1, 0))
    with pytest.raises(ConfigError, match="a test label of stl10 is out of range .given: -1 to 0, expected: 0 to 9"):
        stl10.build(tmp_path, download=False).load()
